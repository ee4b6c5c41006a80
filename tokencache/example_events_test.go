package tokencache_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/coatcheck-go/coatcheck/providers/memory"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Events go to the application's log. What changes tokens is logged at the level
// of information, what an operator should know as a warning or an error.
func ExampleLogEvents() {
	ctx := context.Background()
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: steady}))

	provider, err := memory.New(nil)
	if err != nil {
		panic(err)
	}
	defer func() { _ = provider.Close(ctx) }()
	cache, err := tokencache.New(provider, tokencache.Namespace{Issuer: "https://login.example", ClientID: "app"},
		&tokencache.Options{Events: tokencache.LogEvents(logger)})
	if err != nil {
		panic(err)
	}
	defer func() { _ = cache.Close(ctx) }()

	ticket, err := cache.SignIn(ctx, func(context.Context) (tokencache.Grant, error) { // usually a client's
		return tokencache.Grant{
			AccessToken: "secret", Scopes: []string{"tasks"}, Expires: time.Now().Add(time.Hour),
			Account: tokencache.Account{ID: "ada"},
		}, nil
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(cache.Partition(ticket.Key()).SignOut(ctx, nil))
	// Output:
	// level=INFO msg="tokencache: save" key="account key" partition=i9JY93dH
	// level=INFO msg="tokencache: sign-in" key="account key" partition=i9JY93dH source=server
	// level=INFO msg="tokencache: save" detail=removed key="account key" partition=i9JY93dH
	// level=INFO msg="tokencache: sign-out" key="account key" partition=i9JY93dH
	// <nil>
}

// steady leaves out what differs from run to run.
func steady(_ []string, a slog.Attr) slog.Attr {
	if a.Key == "time" || a.Key == "duration" || a.Key == "correlation_id" {
		return slog.Attr{}
	}
	return a
}
