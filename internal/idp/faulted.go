package idp

import (
	"bytes"
	"io"
	"net/http"
	"time"
)

const hugeBytes = 16 << 20

// faulted lets the fault of an endpoint, if there is one, do its harm before,
// after or instead of next.
func (s *Server) faulted(endpoint string, next realmHandler) realmHandler {
	return func(w http.ResponseWriter, r *http.Request, rm *realm) {
		f, cleared, ok := s.faults.take(endpoint)
		if !ok {
			next(w, r, rm)
			return
		}
		wait := f.Delay
		if f.Kind == kindHang && wait == 0 {
			wait = defaultHang
		}
		if !s.wait(r, wait, cleared) || f.Kind == kindHang {
			writeUnavailable(w, r, http.StatusServiceUnavailable)
			return
		}
		switch {
		case f.Status == http.StatusUnauthorized && (endpoint == endpointAPI || endpoint == endpointUserinfo):
			writeError(w, r, bearerError(f.Status, "invalid_token", errTokenRevoked.Error()))
		case f.Status != 0:
			writeUnavailable(w, r, f.Status)
		case f.Kind == kindGarbage:
			_, _ = io.WriteString(w, "<html>this is not what was asked for")
		case f.Kind == kindHuge:
			writeHuge(w)
		case f.Kind == kindDrop:
			next(&discard{header: make(http.Header)}, r, rm)
			panic(http.ErrAbortHandler) // net/http's way to close without an answer
		default:
			next(w, r.WithContext(withFault(r.Context(), f.Kind)), rm)
		}
	}
}

// wait returns false if it ended early because the client left or the server
// is closing, so that no fault can hold up [Server.Close].
func (s *Server) wait(r *http.Request, d time.Duration, cleared <-chan struct{}) bool {
	if d == 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-cleared:
		return true
	case <-r.Context().Done():
		return false
	case <-s.closing:
		return false
	}
}

func writeUnavailable(w http.ResponseWriter, r *http.Request, status int) {
	w.Header().Set("Retry-After", "1")
	e := badRequest("temporarily_unavailable", "a fault was set for this endpoint")
	e.status = status
	writeError(w, r, e)
}

// writeHuge begins a JSON object whose first member does not end. It stops
// when the client does.
func writeHuge(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if _, err := io.WriteString(w, `{"access_token":"`); err != nil {
		return
	}
	chunk := bytes.Repeat([]byte("a"), 64<<10)
	for range hugeBytes / len(chunk) {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// discard is the ResponseWriter of an answer that nobody gets.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }

func copyBody(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(w, r.Body) // from memory; only the client's leaving can fail it
}
