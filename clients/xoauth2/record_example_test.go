package xoauth2_test

import (
	"context"
	"errors"
	"os"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A command-line program keeps who has signed in. The tokens are in the cache's store.
func ExampleClient_AuthenticationRecord() {
	_ = func(ctx context.Context, client *xoauth2.Client, ticket tokencache.Ticket, file string) error {
		record, err := client.AuthenticationRecord(ctx, ticket)
		if err != nil {
			return err
		}
		return os.WriteFile(file, record.Encode(), 0o600)
	}
}

// The next process of the program signs the same user in, and asks for nothing.
func ExampleClient_SignInSilently() {
	_ = func(ctx context.Context, client *xoauth2.Client, file string) (ticket tokencache.Ticket, interact bool, err error) {
		text, _ := os.ReadFile(file) // without one nobody has signed in
		record, _ := xoauth2.ParseAuthenticationRecord(text)
		ticket, err = client.SignInSilently(ctx, record)
		var act *tokencache.InteractionRequiredError
		return ticket, errors.Is(err, tokencache.ErrNoTokens) || errors.Is(err, xoauth2.ErrRecord) || errors.As(err, &act), err
	}
}
