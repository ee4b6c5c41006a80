package main

import (
	"context"
	"net/http"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/middleware"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// prices is the second API. It calls nobody, so it needs its client for verifying
// tokens only, and nothing is ever kept in its cache.
type prices struct{ *program }

// pricesAnswer is the answer of GET /prices.
type pricesAnswer struct {
	Token  seen           `json:"token"`
	Prices map[string]int `json:"prices"` // in cents
}

var priceList = map[string]int{"wool coat": 18900, "silk scarf": 4900, "umbrella": 2450}

func newPrices(ctx context.Context, cfg *config, a *app) (*prices, error) {
	own := *cfg
	own.provider = inMemory
	p, err := a.newProgram(ctx, a.servers[2], &own, pricesID, &xoauth2.Options{ClientSecret: pricesSecret})
	if err != nil {
		return nil, err
	}
	return &prices{p}, nil
}

func (p *prices) routes() http.Handler {
	bearer := middleware.RequireBearer(p.cache, p.client.Verifier(pricesAudience), &middleware.BearerOptions{
		Scopes: []string{pricesRead}, Realm: "prices",
	})
	mux := http.NewServeMux()
	mux.Handle("GET /prices", bearer(http.HandlerFunc(p.list)))
	return apiOnly(mux)
}

func (p *prices) list(w http.ResponseWriter, r *http.Request) {
	a, _ := tokencache.AssertionFromContext(r.Context()) // RequireBearer has put it there
	writeJSON(w, http.StatusOK, pricesAnswer{Token: seenIn(a, pricesAudience), Prices: priceList})
}
