package idp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	maxFaultTimes = 1_000_000
	maxFaultDelay = time.Minute
	defaultHang   = 30 * time.Second
)

// The kinds of faults. Those from kindWrongNonce on change a token response.
const (
	kindGarbage        = "garbage"
	kindHuge           = "huge"
	kindHang           = "hang"
	kindDrop           = "drop"
	kindWrongNonce     = "wrong_nonce"
	kindWrongAudience  = "wrong_audience"
	kindForeignSubject = "foreign_subject"
	kindNoRefreshToken = "no_refresh_token"
	kindFewerScopes    = "fewer_scopes"
)

// Fault makes an endpoint misbehave for a number of requests. It needs a
// Status, a Kind or a Delay.
type Fault struct {
	// Endpoint is one of token, authorize, api, revoke, userinfo, discovery, keys
	// and device (the device authorization endpoint), at both issuers; discovery is
	// instance discovery and user realms too. Each has at most one fault; a new one
	// replaces it.
	Endpoint string

	// Status, from 400 to 599, answers instead of the endpoint, with
	// Retry-After: 1 and the error temporarily_unavailable. A 401 of the API or
	// of userinfo is that of an invalid token. It excludes Kind.
	Status int

	// Kind is what goes wrong otherwise. At every endpoint:
	//
	//   - garbage: status 200 and a body that is not JSON.
	//   - huge: status 200 and a JSON body of 16 MiB that does not end well.
	//   - hang: no answer until the client goes, the server closes, or Delay
	//     (default 30 s) has passed; then 503.
	//   - drop: the request is processed, say a refresh token is rotated, and
	//     then the connection is closed without an answer.
	//
	// At the token endpoint, in the response to whichever request comes next:
	//
	//   - wrong_nonce: the ID token has another nonce.
	//   - wrong_audience: the ID token is for another client.
	//   - foreign_subject: the ID token is about another user.
	//   - no_refresh_token: there is none in the response. A refresh leaves the
	//     token that was presented in force.
	//   - fewer_scopes: the OpenID Connect scopes and the first other one are
	//     granted, the rest is not.
	Kind string

	// Times is how many requests it affects, at most 1 000 000. Defaults to 1.
	Times int

	// Delay, at most 1 minute, passes before the rest happens. Without Status
	// and Kind the endpoint then answers as usual.
	Delay time.Duration
}

// Fault makes an endpoint misbehave from its next request on. The error says
// what is wrong with f.
func (s *Server) Fault(f Fault) error {
	if f.Times == 0 {
		f.Times = 1
	}
	if err := f.validate(); err != nil {
		return fmt.Errorf("idp: %w", err)
	}
	s.faults.set(f)
	return nil
}

// ClearFault ends the fault of an endpoint, if it has one, and releases the
// requests that it holds: those that hang fail at once, the delayed go on.
func (s *Server) ClearFault(endpoint string) { s.faults.clear(endpoint) }

func (f Fault) validate() error {
	if !isFaultEndpoint(f.Endpoint) {
		return errors.New("endpoint must be one of token, authorize, api, revoke, userinfo, discovery, keys, device")
	}
	switch f.Kind {
	case "", kindGarbage, kindHuge, kindHang, kindDrop:
	case kindWrongNonce, kindWrongAudience, kindForeignSubject, kindNoRefreshToken, kindFewerScopes:
		if f.Endpoint != endpointToken {
			return fmt.Errorf("kind %s is for the token endpoint only", f.Kind)
		}
	default:
		return errors.New("kind must be one of garbage, huge, hang, drop, wrong_nonce, wrong_audience, foreign_subject, no_refresh_token, fewer_scopes")
	}
	switch {
	case f.Status != 0 && (f.Status < 400 || f.Status > 599):
		return errors.New("status must be between 400 and 599")
	case f.Times < 1 || f.Times > maxFaultTimes:
		return fmt.Errorf("times must be between 1 and %d", maxFaultTimes)
	case f.Delay < 0 || f.Delay > maxFaultDelay:
		return fmt.Errorf("delay must be between 0 and %s", maxFaultDelay)
	case f.Status != 0 && f.Kind != "":
		return errors.New("status and kind exclude each other")
	case f.Status == 0 && f.Kind == "" && f.Delay == 0:
		return errors.New("a fault needs a status, a kind or a delay")
	}
	return nil
}

func isFaultEndpoint(name string) bool {
	return slices.Contains([]string{
		endpointToken, endpointAuthorize, endpointAPI, endpointRevoke,
		endpointUserinfo, endpointDiscovery, endpointKeys, endpointDevice,
	}, name)
}

// faults holds the fault of each endpoint and how often it is still due.
type faults struct {
	mu     sync.Mutex // guards what follows
	active map[string]Fault
	ended  map[string]chan struct{} // closed when the endpoint's faults are cleared
}

func newFaults() *faults {
	return &faults{active: make(map[string]Fault), ended: make(map[string]chan struct{})}
}

func (fs *faults) set(f Fault) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.active[f.Endpoint] = f
	if fs.ended[f.Endpoint] == nil {
		fs.ended[f.Endpoint] = make(chan struct{})
	}
}

func (fs *faults) clear(endpoint string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	delete(fs.active, endpoint)
	if ended := fs.ended[endpoint]; ended != nil {
		close(ended)
		delete(fs.ended, endpoint)
	}
}

// take uses up one time of an endpoint's fault, and tells when it is cleared.
func (fs *faults) take(endpoint string) (f Fault, cleared <-chan struct{}, ok bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f, ok = fs.active[endpoint]
	if !ok {
		return Fault{}, nil, false
	}
	if f.Times--; f.Times == 0 {
		delete(fs.active, endpoint)
	} else {
		fs.active[endpoint] = f
	}
	return f, fs.ended[endpoint], true
}

// faultKey carries the kind of a fault to a handler that shapes its answer by it.
type faultKey struct{}

func withFault(ctx context.Context, kind string) context.Context {
	return context.WithValue(ctx, faultKey{}, kind)
}

// faultKind is the kind of the fault that a request is subject to, or "".
func faultKind(ctx context.Context) string {
	kind, _ := ctx.Value(faultKey{}).(string)
	return kind
}
