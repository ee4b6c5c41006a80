package main

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/middleware"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// orders is the first API. It takes tokens that were issued for it, and calls the
// second API in the name of their users, with tokens that it gets in exchange.
type orders struct {
	*program
	prices *caller
}

// ordersAnswer is the answer of GET /orders.
type ordersAnswer struct {
	Token  seen    `json:"token"`
	Orders []order `json:"orders"`
	Next   hop     `json:"next"` // the call of the second API
}

type order struct {
	Item  string `json:"item"`
	Count int    `json:"count"`
	Price int    `json:"price"` // of all, in cents
}

// pricesTimeout bounds a call of the second API, with a token that is refused and
// replaced in between.
const pricesTimeout = 6 * time.Second

func newOrders(ctx context.Context, cfg *config, a *app) (*orders, error) {
	p, err := a.newProgram(ctx, a.servers[1], cfg, ordersID, &xoauth2.Options{ClientSecret: ordersSecret})
	if err != nil {
		return nil, err
	}
	prices, err := newCaller(p, a, "prices", a.servers[2].url, pricesScope, pricesTimeout)
	if err != nil {
		return nil, err
	}
	return &orders{program: p, prices: prices}, nil
}

func (o *orders) routes() http.Handler {
	bearer := middleware.RequireBearer(o.cache, o.client.Verifier(ordersAudience), &middleware.BearerOptions{
		Scopes: []string{ordersRead}, Realm: "orders",
	})
	mux := http.NewServeMux()
	mux.Handle("GET /orders", bearer(http.HandlerFunc(o.list)))
	mux.Handle("POST /signout", bearer(http.HandlerFunc(o.signOut)))
	return apiOnly(mux)
}

// list answers with the caller's orders. Their prices come from the second API,
// which is called in the caller's name: the middleware has put the incoming token
// into the context, and the caller's client exchanges it, or finds in the cache
// what was exchanged for it before.
func (o *orders) list(w http.ResponseWriter, r *http.Request) {
	a, _ := tokencache.AssertionFromContext(r.Context()) // RequireBearer has put it there
	var got pricesAnswer
	cost, err := o.prices.do(r.Context(), http.MethodGet, "/prices", &got)
	if err != nil {
		o.fail(w, r, err)
		return
	}
	answer := ordersAnswer{
		Token: seenIn(a, ordersAudience),
		Next:  hop{API: o.prices.name, seen: got.Token, spent: cost},
	}
	for _, ordered := range []order{{Item: "wool coat", Count: 1}, {Item: "silk scarf", Count: 2}} { // everybody has the same
		ordered.Price = ordered.Count * got.Prices[ordered.Item]
		answer.Orders = append(answer.Orders, ordered)
	}
	writeJSON(w, http.StatusOK, answer)
}

// signOut removes all that this API has obtained on behalf of its caller, with this
// token and with others, on every machine. A web app calls it before it signs its
// user out everywhere: what it removes itself is its own.
func (o *orders) signOut(w http.ResponseWriter, r *http.Request) {
	a, _ := tokencache.AssertionFromContext(r.Context())
	if err := o.cache.SignOutAccount(r.Context(), a.Account(), nil); err != nil {
		o.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// fail answers with what the error means for the caller. What only the caller can
// mend goes back as a challenge. The rest is this API's own trouble, and says
// nothing about the user.
func (o *orders) fail(w http.ResponseWriter, r *http.Request, err error) {
	if middleware.Challenge(w, err) {
		return
	}
	status, code, retry := http.StatusServiceUnavailable, "", time.Second
	var server *tokencache.ServerError
	var api *apiError
	var protocol *xoauth2.ProtocolError
	switch {
	case errors.Is(err, tokencache.ErrUnavailable), errors.Is(err, tokencache.ErrBusy):
		code = "token_store_unavailable"
	case errors.As(err, &server):
		code, retry = "identity_server_unavailable", max(retry, server.RetryAfter)
	case errors.As(err, &protocol):
		status, code, retry = http.StatusBadGateway, "identity_server_refused", 0
	case errors.As(err, &api) && (api.status == http.StatusUnauthorized || api.status == http.StatusForbidden):
		status, code, retry = http.StatusBadGateway, "prices_refused", 0
	case errors.As(err, &api):
		code, retry = "prices_unavailable", max(retry, api.retry)
	default: // such as the end of the request
		code = "temporarily_unavailable"
	}
	if r.Context().Err() == nil {
		o.log.Warn("request failed", "path", r.URL.Path, "code", code, "error", err)
	}
	if retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(retry.Seconds()))))
	}
	writeJSON(w, status, map[string]string{"error": code})
}
