package file_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/coatcheck-go/coatcheck/providers/file"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A program that says what is wrong with the cache, and goes on where nothing is lost
// by it.
func ExampleOpen() {
	ctx := context.Background()
	options := &file.Options{Name: "contoso"}
	provider, err := file.Open(ctx, options)
	damaged := (*file.CorruptError)(nil)
	switch {
	case errors.As(err, &damaged):
		fmt.Println("Sign in again, please. The damaged file is kept at", damaged.Path)
		provider, err = file.Open(ctx, options)
	case errors.Is(err, file.ErrKey) && confirmed("The key of your sign-ins is lost. Begin anew?"):
		if _, err = file.SetAside(ctx, options); err == nil {
			provider, err = file.Open(ctx, options)
		}
	}
	if err != nil {
		fmt.Println(err) // it says what to do
		return
	}
	defer func() { _ = provider.Close(ctx) }()
	cache, err := tokencache.New(provider, tokencache.Namespace{Issuer: "https://login.example", ClientID: "contoso"}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = cache.Close(ctx) }()
	accounts, err := cache.Accounts(ctx)
	fmt.Println(len(accounts), "accounts are signed in", err)
}

func confirmed(string) bool { return false }

// Tokens that are kept in the secret storage of an editor, which encrypts them.
func ExampleNewStream() {
	ctx := context.Background()
	stored := map[string][]byte{} // the editor's
	save := func(_ context.Context, s *file.Stream) error {
		var b bytes.Buffer
		if err := s.Serialize(&b); err != nil {
			return err
		}
		stored["tokens"] = b.Bytes()
		return nil
	}
	stream := file.NewStream(save)
	if err := stream.Deserialize(bytes.NewReader(stored["tokens"])); err != nil {
		fmt.Println(err)
		return
	}
	cache, err := tokencache.New(stream, tokencache.Namespace{Issuer: "https://login.example", ClientID: "contoso"},
		&tokencache.Options{AllowUnencryptedStorage: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = cache.Close(ctx) }()
	_, err = cache.SignIn(ctx, func(context.Context) (tokencache.Grant, error) {
		return tokencache.Grant{AccessToken: "marker-access", Account: tokencache.Account{ID: "ada"}}, nil
	})
	fmt.Println(len(stored["tokens"]) > 0, err)
	// Output: true <nil>
}
