package legacy_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/legacy"
)

// An application that reads its users' caches with Read takes over those that an older
// one has written.
func ExampleRead() {
	older := []byte(`[
		{"Key": "refresh_tokens", "Value": ["{\"home_account_id\": \"uid.utid\", \"client_id\": \"client\", \"secret\": \"refresh-token\"}"]},
		{"Key": "accounts", "Value": ["{\"home_account_id\": \"uid.utid\", \"realm\": \"utid\", \"username\": \"user@example.test\"}"]}
	]`)
	var tokens tokencache.Tokens
	format, err := legacy.Read(&tokens, older)
	fmt.Println(format, err)
	fmt.Println(tokens)
	fmt.Println(tokens.Accounts()[0].Username)
	// Output:
	// MSAL v2 <nil>
	// 0 access, 1 refresh and 0 ID tokens
	// user@example.test
}

// folders keeps two formats in two directories. (An application protects the files,
// as the example of tokencache.Hook does.)
type folders map[legacy.Format]string

func (f folders) load(_ context.Context, a *tokencache.Access, format legacy.Format) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(f[format], a.SuggestedKey))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

func (f folders) save(_ context.Context, a *tokencache.Access, format legacy.Format, b []byte) error {
	path := filepath.Join(f[format], a.SuggestedKey)
	if len(b) > 0 {
		return os.WriteFile(path, b, 0o600)
	}
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Two formats side by side, for as long as the older application still runs.
func ExampleDual() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "tokens-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	f := folders{legacy.Unified: filepath.Join(dir, "unified"), legacy.MSALv2: filepath.Join(dir, "v2")}
	for _, folder := range f {
		if err := os.Mkdir(folder, 0o700); err != nil {
			fmt.Println(err)
			return
		}
	}
	dual := &legacy.Dual{Format: legacy.MSALv2, Load: f.load, Save: f.save}
	cache, err := tokencache.New(nil,
		tokencache.Namespace{Issuer: "https://login.microsoftonline.com/utid/v2.0", ClientID: "client"},
		&tokencache.Options{BeforeAccess: dual.BeforeAccess, AfterAccess: dual.AfterAccess})
	if err != nil {
		fmt.Println(err)
		return
	}
	ticket, err := cache.SignIn(ctx, func(context.Context) (tokencache.Grant, error) {
		return tokencache.Grant{ // from the authorization server
			AccessToken: "access-token", RefreshToken: "refresh-token",
			Scopes: []string{"tasks"}, Expires: time.Now().Add(time.Hour),
			Account: tokencache.Account{ID: "uid.utid", Tenant: "utid"},
		}, nil
	})
	fmt.Println("signed in:", err)

	files, _ := filepath.Glob(filepath.Join(f[legacy.MSALv2], "*"))
	older, _ := os.ReadFile(files[0])
	var tokens tokencache.Tokens
	format, err := legacy.Read(&tokens, older)
	fmt.Printf("the older application finds %v: %v, %v\n", format, tokens, err)

	fmt.Println("signed out:", cache.Partition(ticket.Key()).SignOut(ctx, nil))
	files, _ = filepath.Glob(filepath.Join(f[legacy.MSALv2], "*"))
	fmt.Println("no files:", len(files) == 0)
	fmt.Println("closed:", cache.Close(ctx))
	// Output:
	// signed in: <nil>
	// the older application finds MSAL v2: 1 access, 1 refresh and 0 ID tokens, <nil>
	// signed out: <nil>
	// no files: true
	// closed: <nil>
}
