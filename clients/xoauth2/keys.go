package xoauth2

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

const (
	// keysLife is for how long the server's keys are not asked for again. go-oidc asks
	// whenever a signature does not fit, which anybody can bring about. New keys are
	// published long before they sign.
	keysLife = 10 * time.Second

	// maxKeySets bounds the tenants whose keys are remembered.
	maxKeySets = 64
)

// serverKeys are the keys of the server, by the address of their document: Entra ID
// has one for each tenant.
type serverKeys struct {
	ctx  context.Context // New's, for its values: go-oidc heeds nothing else of it
	http *http.Client
	meta *metadata

	mu   sync.Mutex
	sets map[string]*document
}

func newServerKeys(ctx context.Context, hc *http.Client, m *metadata) *serverKeys {
	return &serverKeys{ctx: ctx, http: hc, meta: m, sets: make(map[string]*document)}
}

// of returns the keys for tokens of a tenant; empty is the one that is configured.
func (k *serverKeys) of(tenant string) *keySet {
	address := k.meta.keysOf(tenant)
	k.mu.Lock()
	defer k.mu.Unlock()
	d := k.sets[address]
	if d == nil {
		if len(k.sets) >= maxKeySets {
			clear(k.sets) // they are fetched again
		}
		d = newDocument(k.ctx, k.http, address)
		k.sets[address] = d
	}
	return &keySet{document: d, meta: k.meta}
}

// document is one document of keys (RFC 7517 §5).
type document struct {
	oidc.KeySet
	*recent
}

func newDocument(ctx context.Context, hc *http.Client, address string) *document {
	c, r := *hc, &recent{base: hc.Transport}
	c.Transport = r
	return &document{oidc.NewRemoteKeySet(oidc.ClientContext(ctx, &c), address), r}
}

// allows tells whether the key that has signed the verified JWT may sign for the
// issuer: whether its member issuer fits, with which Entra ID says whose a key is. A
// key without it may sign for everybody.
func (d *document) allows(jwt, issuer string, m *metadata) bool {
	jws, err := jose.ParseSignedCompact(jwt, asymmetric) // of one signature
	if err != nil {
		return false
	}
	id := jws.Signatures[0].Header.KeyID
	var allowed []jose.JSONWebKey
	barred := false
	for _, k := range d.published() {
		switch {
		case id != "" && k.key.KeyID != id:
		case k.signsFor(issuer, m):
			allowed = append(allowed, k.key)
		default:
			barred = true
		}
	}
	if !barred {
		return len(allowed) > 0 // it was verified with one of these
	}
	return slices.ContainsFunc(allowed, func(k jose.JSONWebKey) bool {
		_, err := jws.Verify(&k)
		return err == nil
	})
}

// asymmetric are the algorithms that go-oidc was told to accept at most, which has
// checked them before.
var asymmetric = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512,
	jose.PS256, jose.PS384, jose.PS512, jose.EdDSA,
}

// published is a key and whose it is: nil for everybody's.
type published struct {
	key    jose.JSONWebKey
	issuer any
}

// signsFor compares the issuers. That of a key of all tenants is a template.
func (p *published) signsFor(issuer string, m *metadata) bool {
	if p.issuer == nil {
		return true
	}
	text, _ := p.issuer.(string)
	return text != "" && strings.ReplaceAll(text, tenantPlaceholder, m.entra.tenantIn(issuer)) == issuer
}

// recent answers with the last good answer while it is young. It is for one URL.
type recent struct {
	base http.RoundTripper

	mu   sync.Mutex
	at   time.Time
	last []byte
	keys []published // of the last answer that was a key set
}

func (r *recent) RoundTrip(req *http.Request) (*http.Response, error) {
	if body := r.young(); body != nil {
		return &http.Response{
			Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: req,
		}, nil
	}
	resp, err := r.base.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body) // bounded by the client
	if err != nil {
		return nil, err
	}
	r.keep(body)
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

func (r *recent) young() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.at) > keysLife {
		return nil
	}
	return r.last
}

// keep remembers an answer. go-oidc forgets whose the keys are.
func (r *recent) keep(body []byte) {
	keys, ok := parseKeys(body)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at, r.last = time.Now(), body
	if ok {
		r.keys = keys
	}
}

// parseKeys leaves out what is not understood, as go-oidc does (RFC 7517 §5).
func parseKeys(body []byte) ([]published, bool) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(body, &set) != nil {
		return nil, false
	}
	var keys []published
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		var whose struct {
			Issuer any `json:"issuer"`
		}
		if json.Unmarshal(raw, &key) == nil && json.Unmarshal(raw, &whose) == nil {
			keys = append(keys, published{key: key, issuer: whose.Issuer})
		}
	}
	return keys, true
}

func (r *recent) published() []published {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys
}
