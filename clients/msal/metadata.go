package msal

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// metadata keeps what MSAL asks about authorities. An MSAL client keeps it too, but
// for itself.
type metadata struct {
	flights singleflight.Group

	mu   sync.Mutex
	kept map[string]keptMetadata // by URL
}

type keptMetadata struct {
	answer *recorded
	at     time.Time
}

const (
	// metadataLife is for how long an answer is taken for true. Endpoints do not move
	// from one day to the next.
	metadataLife = time.Hour
	// metadataPause is for how long nobody waits for a server that has just failed to
	// repeat what is kept.
	metadataPause = time.Minute
	// maxMetadata bounds the tenants whose metadata is kept.
	maxMetadata = 256
)

// panicked is what a flight has panicked with.
type panicked struct{ value any }

var errNoMetadata = errors.New("the answer has no metadata of an authority")

// isMetadata tells whether a request is about an authority: OpenID Connect Discovery 1.0
// §4, and Entra ID's instance discovery.
func isMetadata(req *http.Request) bool {
	return req.Method == http.MethodGet &&
		(strings.HasSuffix(req.URL.Path, "/.well-known/openid-configuration") || strings.HasSuffix(req.URL.Path, "/discovery/instance"))
}

// isMetadata tells whether an answer is worth keeping.
func (a *recorded) isMetadata() bool {
	var m struct {
		Token  string `json:"token_endpoint"`
		Tenant string `json:"tenant_discovery_endpoint"`
	}
	return a.status == http.StatusOK && json.Unmarshal(a.body, &m) == nil && m.Token+m.Tenant != ""
}

// get answers from what is kept, or asks, once for all who want to know. If the server
// does not answer, what is kept is still the best there is.
func (m *metadata) get(hc *http.Client, req *http.Request) (*recorded, error) {
	address := req.URL.String()
	old, ok := m.find(address)
	if ok && time.Since(old.at) < metadataLife {
		return old.answer, nil
	}
	ask := func() (value any, failed error) { //nolint:contextcheck // see below
		defer func() {
			if r := recover(); r != nil {
				value, failed = panicked{r}, nil
			}
		}()
		// For everybody: the client's own timeout ends it.
		a, err := send(hc, req.Clone(context.WithoutCancel(req.Context())))
		switch {
		case err == nil && a.isMetadata():
			m.keep(address, a, time.Now())
		case ok:
			m.keep(address, old.answer, time.Now().Add(metadataPause-metadataLife))
			return old.answer, nil
		case err == nil && a.status == http.StatusOK:
			return nil, &url.Error{Op: "read", Err: errNoMetadata}
		}
		return a, err
	}
	select {
	case r := <-m.flights.DoChan(address, ask):
		if p, ok := r.Val.(panicked); ok {
			panic(p.value) // in its caller, where it can be recovered
		}
		a, _ := r.Val.(*recorded)
		return a, r.Err
	case <-req.Context().Done(): // the caller's, or MSAL's own
		return nil, &url.Error{Op: "wait", Err: req.Context().Err()}
	}
}

func (m *metadata) find(address string) (keptMetadata, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.kept[address]
	return k, ok
}

func (m *metadata) keep(address string, a *recorded, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kept == nil || len(m.kept) >= maxMetadata {
		m.kept = map[string]keptMetadata{}
	}
	m.kept[address] = keptMetadata{answer: a, at: at}
}

func (m *metadata) forget(addresses []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, address := range addresses {
		delete(m.kept, address)
	}
}
