package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// newSessions returns a node's view of the sessions, which are the same for all
// nodes. A store sees hashes of the tokens, so that nobody makes a cookie of what
// is stored.
func newSessions(store scs.Store, cookie scs.SessionCookie, failed func(http.ResponseWriter, *http.Request, error)) *scs.SessionManager {
	return &scs.SessionManager{
		Store: store, Cookie: cookie, ErrorFunc: failed,
		Lifetime: 24 * time.Hour, HashTokenInStore: true, Codec: scs.GobCodec{},
	}
}

// sessionCookie is that of every node. A cookie is for its host whatever the
// port, so a browser that is signed in at one node is signed in at all, and at
// every process that shares the sessions. Where they are in this process, the port
// of its first node is in the name: another process on this host has its own.
func sessionCookie(cfg *config) scs.SessionCookie {
	name := "coatcheck_example"
	if _, port, err := net.SplitHostPort(cfg.addr); err == nil && cfg.provider == inMemory {
		name += "_" + port
	}
	return scs.SessionCookie{
		Name: name, Path: "/", Persist: true, HttpOnly: true,
		SameSite: http.SameSiteLaxMode,                 // the identity server's redirect must bring it
		Secure:   strings.HasPrefix(cfg.url, "https:"), // without TLS, this is plain HTTP on loopback
	}
}

// sessionTimeout bounds each call of the session store.
const sessionTimeout = time.Second

// sessionRecords is what keeps sessions outside of this process. Its calls end with
// their context.
type sessionRecords interface {
	FindCtx(ctx context.Context, token string) (data []byte, found bool, err error)
	CommitCtx(ctx context.Context, token string, data []byte, expiry time.Time) error
	DeleteCtx(ctx context.Context, token string) error
	AllCtx(ctx context.Context) (map[string][]byte, error)
}

// sealedSessions encrypts what it keeps: a ticket names an account, and a sign-in
// that has begun holds the secret which redeems its code. Each session is bound to
// its token, so that one put in the place of another does not open.
type sealedSessions struct {
	records sessionRecords
	seal    tokencache.AEAD
	log     *slog.Logger
}

func newSealedSessions(records sessionRecords, seal tokencache.AEAD, log *slog.Logger) *sealedSessions {
	return &sealedSessions{records: records, seal: seal, log: log}
}

var (
	_ scs.CtxStore         = (*sealedSessions)(nil)
	_ scs.IterableCtxStore = (*sealedSessions)(nil)
)

func boundTo(token string) []byte { return []byte("webapp session\x00" + token) }

// FindCtx is that of [scs.CtxStore].
func (s *sealedSessions) FindCtx(ctx context.Context, token string) ([]byte, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	sealed, found, err := s.records.FindCtx(ctx, token)
	if err != nil || !found {
		return nil, false, err
	}
	data, ok := s.open(sealed, token)
	return data, ok, nil
}

// open treats a session that cannot be read, because it was altered or its key is
// gone, like none: signing in again is the way on.
func (s *sealedSessions) open(sealed []byte, token string) ([]byte, bool) {
	data, err := s.seal.Decrypt(sealed, boundTo(token))
	if err != nil {
		s.log.Error("a session cannot be read", "error", err)
		return nil, false
	}
	return data, true
}

// CommitCtx is that of [scs.CtxStore].
func (s *sealedSessions) CommitCtx(ctx context.Context, token string, data []byte, expiry time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	if !expiry.After(time.Now()) {
		return s.records.DeleteCtx(ctx, token) // go-redis would keep it for ever
	}
	sealed, err := s.seal.Encrypt(data, boundTo(token))
	if err != nil {
		return err
	}
	return s.records.CommitCtx(ctx, token, sealed, expiry)
}

// DeleteCtx is that of [scs.CtxStore].
func (s *sealedSessions) DeleteCtx(ctx context.Context, token string) error {
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	return s.records.DeleteCtx(ctx, token)
}

// AllCtx is that of [scs.IterableCtxStore].
func (s *sealedSessions) AllCtx(ctx context.Context) (map[string][]byte, error) {
	all, err := s.records.AllCtx(ctx)
	for token, sealed := range all {
		if data, ok := s.open(sealed, token); ok {
			all[token] = data
		} else {
			delete(all, token)
		}
	}
	return all, err
}

// Find is that of [scs.Store]: a session manager calls the others.
func (s *sealedSessions) Find(token string) ([]byte, bool, error) {
	return s.FindCtx(context.Background(), token)
}

// Commit is that of [scs.Store].
func (s *sealedSessions) Commit(token string, data []byte, expiry time.Time) error {
	return s.CommitCtx(context.Background(), token, data, expiry)
}

// Delete is that of [scs.Store].
func (s *sealedSessions) Delete(token string) error {
	return s.DeleteCtx(context.Background(), token)
}

// errSessions means that the session store does not answer.
var errSessions = errors.New("the session store does not answer")

// sessionFailed answers when a session could not be loaded, or not be saved. The
// cookie stays as it is.
func (n *node) sessionFailed(w http.ResponseWriter, r *http.Request, err error) {
	if answered, ok := w.(*sessionWriter); ok {
		w = answered.ResponseWriter
		defer func() { answered.failed = true }()
	}
	w.Header().Del("Location") // of the answer that there should have been
	n.fail(w, r, errors.Join(errSessions, err))
}

// sessionWriter makes an answer of sessionFailed the last one. A session is saved
// when its handler begins to answer, and the handler learns of no failure: its own
// answer would follow.
type sessionWriter struct {
	http.ResponseWriter
	failed bool
}

func sessionWriters(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&sessionWriter{ResponseWriter: w}, r)
	})
}

func (w *sessionWriter) WriteHeader(status int) {
	if !w.failed {
		w.ResponseWriter.WriteHeader(status)
	}
}

func (w *sessionWriter) Write(b []byte) (int, error) {
	if w.failed {
		return len(b), nil
	}
	return w.ResponseWriter.Write(b)
}

func (w *sessionWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
