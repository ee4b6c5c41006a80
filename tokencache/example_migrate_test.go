package tokencache_test

import (
	"context"
	"fmt"
	"time"

	"github.com/coatcheck-go/coatcheck/providers/memory"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// From one store to another, with the cursor kept on the way. Whoever was signed in
// through the one is signed in through the other.
func ExampleMigrate() {
	ctx := context.Background()
	namespace := tokencache.Namespace{Issuer: "https://login.example", ClientID: "app"}
	open := func() (*memory.Provider, *tokencache.Cache) { // usually Redis, PostgreSQL or SQLite, and both with the same keys
		p, err := memory.New(nil)
		if err != nil {
			panic(err)
		}
		c, err := tokencache.New(p, namespace, nil)
		if err != nil {
			panic(err)
		}
		return p, c
	}
	from, source := open()
	defer func() { _, _ = source.Close(ctx), from.Close(ctx) }()
	to, target := open()
	defer func() { _, _ = target.Close(ctx), to.Close(ctx) }()

	ticket, err := source.SignIn(ctx, func(context.Context) (tokencache.Grant, error) { // usually a client's
		return tokencache.Grant{
			AccessToken: "secret", Scopes: []string{"tasks"}, Expires: time.Now().Add(time.Hour),
			Account: tokencache.Account{ID: "ada"},
		}, nil
	})
	if err != nil {
		panic(err)
	}

	var kept string // usually in a file, to go on after the process was killed
	result, err := tokencache.Migrate(ctx, from, to, &tokencache.MigrateOptions{
		Cursor:           kept,
		RecordsPerSecond: 500,
		Progress:         func(r tokencache.MigrateResult) { kept = r.Cursor },
	})
	fmt.Println(result.Copied, "copied,", result.Left, "left, error", err)

	token, err := target.Partition(ticket.Key()).Token(ctx, tokencache.Request{Scopes: []string{"tasks"}}, nil)
	fmt.Println(token.Scopes, err)
	// Output:
	// 1 copied, 0 left, error <nil>
	// [tasks] <nil>
}
