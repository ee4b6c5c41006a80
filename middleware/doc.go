// Package middleware gives each HTTP request the token partition of its user.
//
// [LoadAndSave] finds out whose request it is and puts that user's partition
// into the request's context, where a client such as the package xoauth2 finds
// it. Nothing is loaded until the first token is asked for, and whatever changes
// is saved when it changes: the response is not wrapped, and streaming,
// WebSocket upgrades, panics and late writes need no special care.
//
// The response to a request of somebody says Cache-Control: no-store, unless the
// handler says otherwise. Serve what everybody may see, such as stylesheets,
// outside the middleware, or set Cache-Control there.
//
//	r := chi.NewRouter()
//	r.Use(sessions.LoadAndSave) // the session first: it knows the user
//	r.Use(middleware.LoadAndSave(cache, middleware.SessionAccount(func(ctx context.Context) string {
//		return sessions.GetString(ctx, "ticket")
//	})))
//
// In a web API, RequireBearer takes the place of LoadAndSave: it verifies the bearer
// token of each request, and the partition is that of what is obtained on behalf of
// its bearer. Challenge passes on to the caller what only the caller can mend.
//
//	r.Use(middleware.RequireBearer(cache, client.Verifier("api://tasks"), nil))
//
// The middleware is for net/http and everything that takes its handlers, such
// as chi.
package middleware
