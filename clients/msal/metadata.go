package msal

import (
	"context"
	"encoding/json"
	"net/http"
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
	// maxMetadata bounds the tenants whose metadata is kept.
	maxMetadata = 256
)

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
	ask := func() (any, error) { //nolint:contextcheck // see below
		// For everybody: the client's own timeout ends it.
		a, err := send(hc, req.Clone(context.WithoutCancel(req.Context())))
		if err == nil && a.isMetadata() {
			m.keep(address, a)
		}
		return a, err
	}
	select {
	case r := <-m.flights.DoChan(address, ask):
		a, _ := r.Val.(*recorded)
		switch {
		case ok && (r.Err != nil || !a.isMetadata()):
			return old.answer, nil
		case r.Err != nil:
			return nil, r.Err
		}
		return a, nil
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
}

func (m *metadata) find(address string) (keptMetadata, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.kept[address]
	return k, ok
}

func (m *metadata) keep(address string, a *recorded) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kept == nil || len(m.kept) >= maxMetadata {
		m.kept = map[string]keptMetadata{}
	}
	m.kept[address] = keptMetadata{answer: a, at: time.Now()}
}

func (m *metadata) forget(addresses []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, address := range addresses {
		delete(m.kept, address)
	}
}
