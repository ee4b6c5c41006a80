package tokencache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// files keeps the partitions in a directory of the application's own, one
// encrypted file for each. (An application also deletes what is older than
// IdleTimeout: files of users who do not come back.)
type files struct {
	dir  string
	keys tokencache.AEAD
}

// read is the hook BeforeAccess.
func (f files) read(_ context.Context, a *tokencache.Access) error {
	sealed, err := os.ReadFile(filepath.Join(f.dir, a.SuggestedKey))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // no tokens
	case err != nil:
		return err
	}
	// Bound to the name, a file does not open under that of another user.
	text, err := f.keys.Decrypt(sealed, []byte(a.SuggestedKey))
	if err != nil {
		return err
	}
	return a.Tokens.Deserialize(bytes.NewReader(text))
}

// write is the hook AfterAccess.
func (f files) write(_ context.Context, a *tokencache.Access) error {
	path := filepath.Join(f.dir, a.SuggestedKey)
	if !a.HasStateChanged {
		return nil
	}
	if !a.HasTokens {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	var text bytes.Buffer
	if err := a.Tokens.Serialize(&text); err != nil {
		return err
	}
	sealed, err := f.keys.Encrypt(text.Bytes(), []byte(a.SuggestedKey))
	if err != nil {
		return err
	}
	return replaceFile(path, sealed)
}

// replaceFile writes all of the file or nothing, for its owner alone.
func replaceFile(path string, b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "tmp-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // is gone if all went well
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// Without a provider, hooks keep the tokens: here in encrypted files.
func ExampleHook() {
	ctx := context.Background()
	keys, err := tokencache.LoadKeys(ctx, func(context.Context) ([]byte, error) {
		return tokencache.NewKeyText(), nil // an application has a KeyFile instead
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	dir, err := os.MkdirTemp("", "tokens-")
	if err != nil {
		fmt.Println(err)
		return
	}
	f := files{dir: dir, keys: keys.Seal}
	cache, err := tokencache.New(nil,
		tokencache.Namespace{Issuer: "https://login.example", ClientID: "client"},
		&tokencache.Options{BeforeAccess: f.read, AfterAccess: f.write})
	if err != nil {
		fmt.Println(err)
		return
	}

	ticket, err := cache.SignIn(ctx, func(context.Context) (tokencache.Grant, error) {
		return tokencache.Grant{ // from the authorization server
			AccessToken: "access-token", RefreshToken: "refresh-token",
			Scopes: []string{"tasks"}, Expires: time.Now().Add(time.Hour),
			Account: tokencache.Account{ID: "user"},
		}, nil
	})
	fmt.Println("signed in:", err)
	user := cache.Partition(ticket.Key())
	token, err := user.Token(ctx, tokencache.Request{Scopes: []string{"tasks"}}, nil)
	fmt.Println("token:", string(token.AccessToken), err)

	fmt.Println("signed out:", user.SignOut(ctx, nil))
	fmt.Println("no tokens:", errors.Is(user.Check(ctx), tokencache.ErrNoTokens))
	fmt.Println("no files:", os.Remove(dir) == nil)
	fmt.Println("closed:", cache.Close(ctx))
	// Output:
	// signed in: <nil>
	// token: access-token <nil>
	// signed out: <nil>
	// no tokens: true
	// no files: true
	// closed: <nil>
}
