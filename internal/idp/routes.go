package idp

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"time"
)

const (
	maxFormBytes = 64 << 10
	maxEchoBytes = 1 << 20
)

// The endpoints that a fault can be set for.
const (
	endpointToken     = "token"
	endpointAuthorize = "authorize"
	endpointAPI       = "api"
	endpointRevoke    = "revoke"
	endpointUserinfo  = "userinfo"
	endpointDiscovery = "discovery"
	endpointKeys      = "keys"
	endpointDevice    = "device"
	endpointNone      = "" // takes no faults
)

// realmHandler handles a request that came in below one of the two issuers.
type realmHandler func(http.ResponseWriter, *http.Request, *realm)

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for _, rm := range []*realm{s.plain, s.entra} {
		handle := func(pattern, endpoint string, h realmHandler) {
			mux.Handle(pattern, s.inRealm(rm, endpoint, h))
		}
		handle("GET "+rm.discoveryPath, endpointDiscovery, s.discovery)
		handle("GET "+rm.keysPath, endpointKeys, s.jwks)
		handle("GET "+rm.path("authorize"), endpointAuthorize, s.authorizeForm)
		handle("POST "+rm.path("authorize"), endpointAuthorize, s.authorizeSubmit)
		mux.Handle("POST "+rm.path("token"), s.inTenant(rm, limited(maxFormBytes, s.counted(s.faulted(endpointToken, s.token)))))
		handle("POST "+rm.path(rm.device), endpointDevice, s.deviceAuthorization)
		handle("POST "+rm.path("revoke"), endpointRevoke, s.revoke)
		handle("GET "+rm.path("userinfo"), endpointUserinfo, s.userinfo)
		handle("POST "+rm.path("userinfo"), endpointUserinfo, s.userinfo)
		handle("GET "+rm.path("logout"), endpointNone, s.logout)
		handle("POST "+rm.path("logout"), endpointNone, s.logout)
	}
	mux.Handle("GET /common/discovery/instance", s.inRealm(s.plain, endpointDiscovery, s.instanceDiscovery))
	mux.Handle("GET /common/UserRealm/{user}", s.inRealm(s.plain, endpointDiscovery, s.userRealm))
	mux.Handle("GET /device", s.inRealm(s.plain, endpointNone, s.deviceForm))
	mux.Handle("POST /device", s.inRealm(s.plain, endpointNone, s.deviceSubmit))
	s.apiRoutes(mux)
	s.controlRoutes(mux)
	return secured(mux)
}

// inRealm wraps a handler in what all endpoints of an issuer share. The order
// matters: a body is read whole before a fault may hold the request, since only
// then does the server notice that the client has gone.
func (s *Server) inRealm(rm *realm, endpoint string, h realmHandler) http.Handler {
	if endpoint != endpointNone {
		h = s.faulted(endpoint, h)
	}
	return s.inTenant(rm, limited(maxFormBytes, h))
}

// limited reads the body into memory and refuses one that is too large.
func limited(limit int64, next realmHandler) realmHandler {
	return func(w http.ResponseWriter, r *http.Request, rm *realm) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
		if err != nil {
			e := badRequest("invalid_request", "the body could not be read")
			if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
				e.status, e.description = http.StatusRequestEntityTooLarge, "the body is too large"
			}
			writeError(w, r, e)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next(w, r, rm)
	}
}

// noted remembers when a request came.
func (s *Server) noted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.last.Store(time.Now().UnixNano())
		next.ServeHTTP(w, r)
	})
}

// secured sets headers that are right for every answer of this server: nothing
// here may be cached, sniffed for a type, framed, or named in a Referer.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Pragma", "no-cache") // RFC 6749 §5.1 asks for both
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}
