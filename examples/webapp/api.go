package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// answer is what the API says of the user, and where the token for the call
// came from.
type answer struct {
	Account string            `json:"account"`
	Name    string            `json:"name"`
	Scopes  []string          `json:"scopes"`
	Expires time.Time         `json:"expires_at"`
	Source  string            `json:"source"`
	source  tokencache.Source // the same
	took    time.Duration     // to get the token
}

// call calls the API for the user. Most applications need the one line with
// n.api.Do only; asking for the token before and after is for showing where it
// came from, and costs nothing, as the request's tokens have been loaded.
func (n *node) call(ctx context.Context) (answer, error) {
	began := time.Now()
	var token tokencache.Token
	err := n.patiently(ctx, func(ctx context.Context) (err error) {
		token, err = n.client.Token(ctx, apiScope)
		return err
	})
	if err != nil {
		return answer{}, err
	}
	a := answer{source: token.Source, took: time.Since(began)}
	leave, err := n.enter(ctx)
	if err != nil {
		return answer{}, err
	}
	defer leave()
	ctx = quiet(ctx) // the token is looked up again, by the transport and below
	if err := n.askAPI(ctx, &a); err != nil {
		return answer{}, err
	}
	if used, ok := n.cached(ctx); ok && used.AccessToken != token.AccessToken {
		// The API refused the first one, and the transport got another.
		token, a.source, a.took = used, tokencache.SourceServer, time.Since(began)
	}
	a.Source, a.Scopes, a.Expires = a.source.String(), token.Scopes, token.Expires
	return a, nil
}

// patiently gives the identity server some time to answer.
func (n *node) patiently(ctx context.Context, ask func(context.Context) error) error {
	waiting, cancel := context.WithTimeout(ctx, n.patience)
	defer cancel()
	err := ask(waiting)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return &tokencache.ServerError{Err: errors.New("the identity server takes too long")}
	}
	return err
}

// enter waits for a free place at the API: calls in excess wait their turn for a
// while, rather than make each other time out. Only whoever has a token waits,
// so that a slow identity server holds up nobody else.
func (n *node) enter(ctx context.Context) (leave func(), err error) {
	patience := time.NewTimer(maxWait)
	defer patience.Stop()
	select {
	case n.calls <- struct{}{}:
		return func() { <-n.calls }, nil
	case <-patience.C:
		return nil, &tokencache.ServerError{Err: errors.New("too many calls of the API are under way")}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// cached returns the token that is in the cache by now, asking no server.
func (n *node) cached(ctx context.Context) (tokencache.Token, bool) {
	p, ok := n.cache.FromContext(ctx)
	if !ok {
		return tokencache.Token{}, false
	}
	token, err := p.Token(ctx, tokencache.Request{Scopes: []string{apiScope}}, nil)
	return token, err == nil
}

func (n *node) askAPI(ctx context.Context, a *answer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.issuer.base+"/api/me", nil)
	if err != nil {
		return err
	}
	resp, err := n.api.Do(req)
	if err != nil {
		return apiError(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := refusedBy(resp); err != nil {
		return err
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(a); err != nil {
		return &tokencache.ServerError{Err: errors.New("the API's answer is not JSON")}
	}
	return nil
}

// refusedBy tells what the status of the API's answer means.
func refusedBy(resp *http.Response) error {
	switch {
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return errRefused // also with a new token
	case resp.StatusCode != http.StatusOK:
		return &tokencache.ServerError{
			RetryAfter: retryAfter(resp),
			Err:        fmt.Errorf("the API answered with status %d", resp.StatusCode),
		}
	}
	return nil
}

// apiError leaves the errors of the cache and its client as they are: the transport
// passes them on. Any other means that the API did not answer.
func apiError(err error) error {
	if problemOf(err).code != "temporarily_unavailable" {
		return err
	}
	return serverError(err)
}

func retryAfter(resp *http.Response) time.Duration {
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || seconds < 0 || seconds > 3600 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// expire makes the next call ask the identity server for a token.
func (n *node) expire(ctx context.Context) error {
	p, ok := n.cache.FromContext(ctx)
	if !ok {
		return tokencache.ErrNoTokens
	}
	return p.Expire(ctx)
}

// revoke ends the user's sign-in at the identity server.
func (n *node) revoke(ctx context.Context) error {
	if !n.issuer.local() {
		return errNotLocal
	}
	return n.issuer.revoke(ctx, n.plain, n.user(ctx).Username)
}

// user is who is signed in, for people to read; the zero Account if that is not
// known.
func (n *node) user(ctx context.Context) tokencache.Account {
	p, ok := n.cache.FromContext(ctx)
	if !ok {
		return tokencache.Account{}
	}
	tokens, err := p.Tokens(ctx)
	if err != nil {
		return tokencache.Account{}
	}
	return userOf(tokens)
}

func (n *node) apiMe(w http.ResponseWriter, r *http.Request) {
	a, err := n.call(r.Context())
	if err != nil {
		n.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, a)
}

// apiDo answers 204 after the action.
func (n *node) apiDo(action func(context.Context) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := action(r.Context()); err != nil {
			n.fail(w, r, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

func (n *node) apiCache(w http.ResponseWriter, r *http.Request) {
	p, _ := n.cache.FromContext(r.Context()) // RequireTokens has seen it
	tokens, err := p.Tokens(r.Context())
	if err != nil {
		n.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"account": map[string]string{"name": userOf(tokens).Name},
		"tokens":  entriesOf(tokens),
	})
}

// healthz tells whether this node can reach its store.
func (n *node) healthz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), time.Second)
	defer cancel()
	if err := n.store.ping(ctx); err != nil {
		n.fail(w, r, errors.Join(tokencache.ErrUnavailable, err))
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok", "provider": n.store.name})
}
