package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/alexedwards/scs/v2"
	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// testSessions checks that what is stored does not show what it is, opens in its
// own place only, and ends.
func testSessions(t *testing.T, records sessionRecords) {
	t.Helper()
	ctx := t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var logs buffer
	newStore := func() *sealedSessions {
		keys, err := tokencache.LoadKeys(ctx, func(context.Context) ([]byte, error) { return tokencache.NewKeyText(), nil })
		check(err)
		return newSealedSessions(records, keys.Seal, slog.New(slog.NewTextHandler(&logs, nil)))
	}
	s, others := newStore(), newStore()
	later := time.Now().Add(time.Hour)
	check(s.Commit("ada", []byte("marker-first"), later))
	check(s.CommitCtx(ctx, "ada", []byte("marker-ada"), later))
	check(s.CommitCtx(ctx, "bob", []byte("marker-bob"), later))
	if data, found, err := s.FindCtx(ctx, "ada"); string(data) != "marker-ada" || !found || err != nil {
		t.Errorf("found %t, %v", found, err)
	}
	if data, found, err := s.Find("bob"); string(data) != "marker-bob" || !found || err != nil {
		t.Errorf("found %t, %v", found, err)
	}
	if all, err := s.AllCtx(ctx); len(all) != 2 || string(all["bob"]) != "marker-bob" || err != nil {
		t.Errorf("%d sessions, %v", len(all), err)
	}

	adas, found, err := records.FindCtx(ctx, "ada")
	check(err)
	if !found || bytes.Contains(adas, []byte("marker")) {
		t.Error("the session is stored in clear")
	}
	check(records.CommitCtx(ctx, "bob", adas, later))
	check(records.CommitCtx(ctx, "eve", adas[:len(adas)-1], later))
	check(records.CommitCtx(ctx, "empty", []byte{}, later))
	for _, token := range []string{"bob", "eve", "empty", "absent"} {
		if data, found, err := s.FindCtx(ctx, token); found || data != nil || err != nil {
			t.Errorf("%s: found %t, %v", token, found, err)
		}
	}
	if _, found, err := others.FindCtx(ctx, "ada"); found || err != nil {
		t.Errorf("with other keys: found %t, %v", found, err)
	}
	if all, err := s.AllCtx(ctx); len(all) != 1 || err != nil {
		t.Errorf("%d sessions can be read, %v", len(all), err)
	}
	if !strings.Contains(logs.String(), "a session cannot be read") || strings.Contains(logs.String(), "marker") {
		t.Error("the log tells nothing of it, or too much")
	}

	check(s.CommitCtx(ctx, "soon", []byte("marker-soon"), time.Now().Add(50*time.Millisecond)))
	check(s.CommitCtx(ctx, "ada", []byte("marker-ada"), time.Now().Add(-time.Second)))
	check(s.CommitCtx(ctx, "late", []byte("marker-late"), time.Now().Add(-time.Second)))
	check(s.DeleteCtx(ctx, "bob"))
	check(s.Delete("bob"))
	time.Sleep(60 * time.Millisecond)
	for _, token := range []string{"ada", "late", "bob", "soon"} {
		if _, found, err := records.FindCtx(ctx, token); found || err != nil {
			t.Errorf("%s is still there: %v", token, err)
		}
	}
	if all, err := records.AllCtx(ctx); len(all) != 2 || err != nil { // eve's, and the empty one
		t.Errorf("%d sessions are left, %v", len(all), err)
	}
}

// sessionsEnd checks that calls of a store that does not answer end in time.
func sessionsEnd(t *testing.T, records sessionRecords) {
	t.Helper()
	keys, err := tokencache.LoadKeys(t.Context(), func(context.Context) ([]byte, error) { return tokencache.NewKeyText(), nil })
	if err != nil {
		t.Fatal(err)
	}
	s := newSealedSessions(records, keys.Seal, slog.New(slog.DiscardHandler))
	began, ctx := time.Now(), t.Context()
	for name, err := range map[string]error{
		"find":   func() error { _, _, err := s.FindCtx(ctx, "ada"); return err }(),
		"commit": s.CommitCtx(ctx, "ada", nil, time.Now().Add(time.Hour)),
		"delete": s.DeleteCtx(ctx, "ada"),
	} {
		if err == nil {
			t.Errorf("%s: no error of a server that hangs", name)
		}
	}
	if took := time.Since(began); took > 3*sessionTimeout+time.Second {
		t.Errorf("three calls of a server that hangs took %s", took)
	}
}

func TestRedisSessions(t *testing.T) {
	t.Parallel()
	server := testserver.NewRedis(t)
	client := newRedisClient(&redis.Options{Addr: server.Addr()})
	defer func() { _ = client.Close() }()
	records := goredisstore.NewWithPrefix(client, sessionPrefix)
	testSessions(t, records)
	if err := records.CommitCtx(t.Context(), "ada", []byte{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if ttl := client.TTL(t.Context(), sessionPrefix+"ada").Val(); ttl <= 0 || ttl > time.Hour {
		t.Errorf("it is kept for %s", ttl)
	}
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	sessionsEnd(t, records)
}

// brittle is a session store whose calls fail.
type brittle struct {
	scs.Store
	find, commit error
}

func (s *brittle) Find(token string) ([]byte, bool, error) {
	if s.find != nil {
		return nil, false, s.find
	}
	return s.Store.Find(token)
}

func (s *brittle) Commit(token string, b []byte, expiry time.Time) error {
	if s.commit != nil {
		return s.commit
	}
	return s.Store.Commit(token, b, expiry)
}

// TestSessionFailed: when a session cannot be loaded or saved, one page says so,
// whatever the handler answers, and the cookie stays.
func TestSessionFailed(t *testing.T) {
	t.Parallel()
	s := open(t)
	n := s.nodes[0]
	broken := errors.New("dial tcp: marker-address")
	handlers := map[string]http.HandlerFunc{
		"redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusSeeOther) },
		"page":     func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "marker-page") },
		"JSON":     func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, "marker-json") },
		"nothing":  func(http.ResponseWriter, *http.Request) {},
	}
	for name, handler := range handlers {
		for when, store := range map[string]*brittle{
			"load": {Store: s.store.sessions, find: broken},
			"save": {Store: s.store.sessions, commit: broken},
		} {
			sessions := newSessions(store, s.cookie, n.sessionFailed)
			h := sessionWriters(sessions.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				sessions.Put(r.Context(), "key", "value")
				handler(w, r)
			})))
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.AddCookie(&http.Cookie{Name: s.cookie.Name, Value: "somebody"})
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			got := strings.TrimSpace(w.Body.String())
			if w.Code != http.StatusServiceUnavailable || strings.Count(got, "</html>") != 1 || !strings.HasSuffix(got, "</html>") ||
				!strings.Contains(got, "has not signed you out") || strings.Contains(got, "marker") {
				t.Errorf("%s, %s: status %d", name, when, w.Code)
			}
			if h := w.Header(); h.Get("Set-Cookie") != "" || h.Get("Location") != "" || h.Get("Retry-After") == "" {
				t.Errorf("%s, %s: it sets a cookie, leads elsewhere, or does not say when to try again: %v", name, when, h)
			}
		}
	}
	if logs := s.logs.String(); !strings.Contains(logs, "sessions_unavailable") {
		t.Error("the log does not tell of it")
	}
}
