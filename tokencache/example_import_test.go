package tokencache_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/coatcheck-go/coatcheck/providers/memory"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// takeOver signs in a user with what another library has cached: account is the home
// account ID, and text what that library has serialized.
func takeOver(ctx context.Context, cache *tokencache.Cache, account string, text []byte) (tokencache.Ticket, error) {
	var tokens tokencache.Tokens
	if err := tokens.UnmarshalJSON(text); err != nil {
		return tokencache.Ticket{}, err
	}
	return cache.SignIn(ctx, func(context.Context) (tokencache.Grant, error) {
		return tokencache.Grant{Account: tokencache.Account{ID: account}, Tokens: &tokens}, nil
	})
}

// takeOverAll does so for many, by home account ID, and returns whose cache has nothing
// to work with. Those who have signed in or out here meanwhile are left as they are.
func takeOverAll(ctx context.Context, cache *tokencache.Cache, all map[string][]byte) (without []string, err error) {
	for account, text := range all {
		err := cache.Partition(tokencache.AccountKey(account)).Check(ctx)
		if err == nil || errors.Is(err, tokencache.ErrRemoved) {
			continue
		}
		if errors.Is(err, tokencache.ErrNoTokens) {
			_, err = takeOver(ctx, cache, account, text)
		}
		switch {
		case errors.Is(err, tokencache.ErrNoTokens), errors.Is(err, tokencache.ErrTooLarge): // they sign in anew
			without = append(without, account)
		case err != nil:
			return without, err // and begin again: whoever was taken over is left out then
		}
	}
	return without, nil
}

// Users are taken over from Microsoft's libraries with what is in their caches, here that
// of MSAL Node.
func ExampleCache_SignIn_takeOver() {
	ctx := context.Background()
	provider, err := memory.New(nil)
	if err != nil {
		panic(err)
	}
	defer func() { _ = provider.Close(ctx) }()
	cache, err := tokencache.New(provider, tokencache.Namespace{
		Issuer: "https://login.microsoftonline.com/contoso.test/v2.0", ClientID: "app",
	}, nil)
	if err != nil {
		panic(err)
	}
	defer func() { _ = cache.Close(ctx) }()

	without, err := takeOverAll(ctx, cache, map[string][]byte{
		"ada.contoso": []byte(`{
			"Account": {"ada.contoso-login.microsoftonline.com-contoso": {
				"home_account_id": "ada.contoso", "environment": "login.microsoftonline.com", "realm": "contoso",
				"local_account_id": "ada", "username": "ada@contoso.test", "authority_type": "MSSTS"}},
			"AccessToken": {"ada.contoso-login.microsoftonline.com-accesstoken-app-contoso-tasks.read-": {
				"home_account_id": "ada.contoso", "environment": "login.microsoftonline.com", "credential_type": "AccessToken",
				"client_id": "app", "secret": "secret", "realm": "contoso", "target": "Tasks.Read",
				"cached_at": "1800000000", "expires_on": "4070908800", "token_type": "Bearer"}},
			"RefreshToken": {"ada.contoso-login.microsoftonline.com-refreshtoken-app---": {
				"home_account_id": "ada.contoso", "environment": "login.microsoftonline.com", "credential_type": "RefreshToken",
				"client_id": "app", "secret": "secret"}}}`),
		"bob.contoso": []byte(`{}`),
	})
	fmt.Println(without, err)
	token, err := cache.Partition(tokencache.AccountKey("ada.contoso")).
		Token(ctx, tokencache.Request{Scopes: []string{"Tasks.Read"}}, nil)
	fmt.Println(token.Scopes, token.Expires.Year(), err)
	// Output:
	// [bob.contoso] <nil>
	// [Tasks.Read] 2099 <nil>
}
