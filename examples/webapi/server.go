package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Bounds of each server.
const (
	requestTimeout = 30 * time.Second
	maxHeaderBytes = 32 << 10 // more, by a few KiB, is answered with 431
	maxBodyBytes   = 64 << 10
)

// server is one of the three on its address.
type server struct {
	name     string
	url      string // without a slash at the end
	listener net.Listener
	http     *http.Server
	served   chan struct{} // closed when it has stopped; nil before serve
}

// listen takes the address, before anybody is told of it.
func listen(ctx context.Context, name, addr string) (*server, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("the %s: %w", name, err)
	}
	return &server{name: name, url: "http://" + l.Addr().String(), listener: l}, nil
}

// serve answers with the handler from now on. If it stops by itself, failed is told.
func (s *server) serve(h http.Handler, log *slog.Logger, failed chan<- error) {
	s.http = &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	s.served = make(chan struct{})
	go func() {
		defer close(s.served)
		if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("the %s: %w", s.name, err)
		}
	}()
}

// stop lets requests finish, for a while: a client that never finishes its request
// must not take the time that refreshes need.
func (s *server) stop(ctx context.Context) error {
	if s.served == nil {
		return s.listener.Close()
	}
	requests, cancel := context.WithTimeout(ctx, closeTimeout/4)
	defer cancel()
	var err error
	if s.http.Shutdown(requests) != nil {
		err = s.http.Close()
	}
	<-s.served
	return err
}

// apiOnly is for what programs call, and no page should: nothing of an answer is
// for a browser to show, run or keep.
func apiOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
		next.ServeHTTP(w, r)
	})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has left: nobody to tell
}
