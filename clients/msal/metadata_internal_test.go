package msal

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
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
	get()
	if got := asked.Load(); got != 3 {
		t.Error("a server that has just failed was asked again")
	}
	server.Close()
	m.kept[server.URL] = keptMetadata{m.kept[server.URL].answer, time.Now().Add(-metadataLife)}
	get()
}

// A caller who leaves takes the answer from nobody else. One whom MSAL's own patience
// ends, while the caller's lasts, has met a server without an answer.
func TestMetadataIsForAll(t *testing.T) {
	t.Parallel()
	asked, answer := make(chan struct{}), make(chan struct{})
	begin := sync.OnceFunc(func() { close(asked) })
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		begin()
		<-answer
		_, _ = w.Write([]byte(`{"token_endpoint":"https://login.example/token"}`))
	}))
	defer server.Close()
	var m metadata
	get := func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
		if err != nil {
			t.Error(err)
		}
		_, err = m.get(server.Client(), req)
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan error), make(chan error)
	go func() { first <- get(ctx) }()
	<-asked
	go func() { second <- get(t.Context()) }()
	cancel()
	var unheard *url.Error
	if err := <-first; !errors.As(err, &unheard) || !errors.Is(err, context.Canceled) {
		t.Errorf("the first one: %v", err)
	}
	close(answer)
	if err := <-second; err != nil {
		t.Errorf("the second one: %v", err)
	}
}

// What an HTTP client panics with goes up to who has called it, who may recover.
func TestMetadataPanics(t *testing.T) {
	t.Parallel()
	defer func() {
		if got := recover(); got != "of the transport" {
			t.Errorf("recovered %v", got)
		}
	}()
	hc := &http.Client{Transport: panicking{}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://login.example/", nil)
	if err != nil {
		t.Fatal(err)
	}
	var m metadata
	_, _ = m.get(hc, req)
}

type panicking struct{}

func (panicking) RoundTrip(*http.Request) (*http.Response, error) { panic("of the transport") }
