package msal

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// What is kept is asked for anew after an hour, and used on while that brings nothing.
func TestMetadataLife(t *testing.T) {
	t.Parallel()
	var asked, status atomic.Int64
	status.Store(http.StatusOK)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(int(status.Load()))
		_, _ = w.Write([]byte(`{"token_endpoint":"https://login.example/token"}`))
	}))
	defer server.Close()
	var m metadata
	get := func() {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		a, err := m.get(server.Client(), req)
		if err != nil || a.status != http.StatusOK {
			t.Fatalf("got %+v, %v", a, err)
		}
	}
	for i, want := range []int64{1, 1, 2, 3} {
		if i == 3 {
			status.Store(http.StatusServiceUnavailable)
		}
		if i >= 2 {
			k := m.kept[server.URL]
			k.at = time.Now().Add(-metadataLife)
			m.kept[server.URL] = k
		}
		get()
		if got := asked.Load(); got != want {
			t.Errorf("step %d: asked %d times, want %d", i, got, want)
		}
	}
	server.Close()
	get()
}
