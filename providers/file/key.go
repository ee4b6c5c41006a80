package file

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/zalando/go-keyring"
	"golang.org/x/crypto/argon2"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// service names the entries of this package in the operating system's store.
const service = "coatcheck"

// promptTime is how long the store may take for an answer, also of a caller who would wait
// longer: it may be asking the user for a password.
const promptTime = 2 * time.Minute

// encryptTime is how long it may take where there is a plain file already: what is to be
// saved in it must not be lost while nobody types the password.
const encryptTime = 500 * time.Millisecond

// errNoEntry means that the store has no key under the name.
var errNoEntry = errors.New("no entry")

// stored returns the key that the operating system's store has under the name. The error
// is errNoEntry or ErrKeyStore.
func stored(ctx context.Context, name string) (*tokencache.KeyRing, error) {
	text, err := ask(ctx, func() (string, error) { return keyring.Get(service, name) })
	switch {
	case errors.Is(err, keyring.ErrNotFound):
		return nil, errNoEntry
	case err != nil:
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err == nil {
		var ring *tokencache.KeyRing
		if ring, err = tokencache.NewKeyRing(key); err == nil {
			return ring, nil
		}
	}
	return nil, fmt.Errorf("%w: its entry %q for %q is not a key of this program: remove the entry", ErrKey, service, name)
}

// store draws a key, and puts it into the operating system's store. It is read again, as
// a store that forgets would cost the user the file. free is called once the store has
// answered, be it when nobody waits for that any more: a key that comes late must not
// replace the one of somebody else.
func store(ctx context.Context, name string, free func()) (*tokencache.KeyRing, error) {
	key := make([]byte, tokencache.KeySize)
	_, _ = rand.Read(key) // never fails (crypto/rand, Go 1.24)
	_, err := ask(ctx, func() (string, error) {
		defer free()
		return "", keyring.Set(service, name, base64.StdEncoding.EncodeToString(key))
	})
	if err != nil {
		return nil, err
	}
	ring, err := stored(ctx, name)
	if errors.Is(err, errNoEntry) {
		return nil, fmt.Errorf("%w: it does not keep what is put into it", ErrKeyStore)
	}
	return ring, err
}

// ask calls the store, whose library has no deadlines, and may wait forever for an
// answer to a prompt. One that is late is left alone, and its goroutine with it.
func ask(ctx context.Context, call func() (string, error)) (string, error) {
	if noBus() {
		return "", storeError(runtime.GOOS, errors.New("no D-Bus session"))
	}
	ctx, cancel := context.WithTimeout(ctx, promptTime)
	defer cancel()
	type answer struct {
		text string
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if r := recover(); r != nil { // go-keyring, when the bus goes away during a prompt
				a.err = errors.New("the connection was lost")
			}
			done <- a
		}()
		a.text, a.err = call()
	}()
	select {
	case a := <-done:
		if a.err == nil || errors.Is(a.err, keyring.ErrNotFound) {
			return a.text, a.err
		}
		return "", storeError(runtime.GOOS, a.err)
	case <-ctx.Done():
		return "", fmt.Errorf("%w in time: is it waiting for a password? %w", ErrKeyStore, ctx.Err())
	}
}

// storeError tells a store that is locked from one that is not there, by the texts of
// go-keyring, which has no types for it. Of a default keyring that is not the login
// keyring, as KWallet's and KeePassXC's, it cannot be told whether it is there.
func storeError(goos string, err error) error {
	const otherwise = "or use a passphrase, or allow unencrypted storage"
	switch text := err.Error(); {
	case goos == "darwin":
		return fmt.Errorf("%w: the Keychain is locked, or this program may not use it: allow that, unlock it "+
			"(with security unlock-keychain where there is no desktop), %s: %w", ErrKeyStore, otherwise, err)
	case goos == "windows":
		return fmt.Errorf("%w: the Credential Manager is not there for this session: log on to Windows with a password, %s: %w",
			ErrKeyStore, otherwise, err)
	case strings.Contains(text, "/aliases/default"):
		return fmt.Errorf("%w: it has no default keyring, or a locked one: unlock it, log in to the desktop once, or create one, %s: %w",
			ErrKeyStore, otherwise, err)
	case strings.Contains(text, "failed to unlock"):
		return fmt.Errorf("%w: the keyring is locked: unlock it (with gnome-keyring-daemon --unlock where there is no desktop), "+
			"and try again: %w", ErrKeyStore, err)
	}
	return fmt.Errorf("%w: there is none for this session: on Linux, install and start gnome-keyring or another Secret Service, "+
		"with a D-Bus session (dbus-run-session where there is no desktop), %s: %w", ErrKeyStore, otherwise, err)
}

// newParams are the second choice of RFC 9106 §4, for where 2 GiB of memory are not at
// hand, with a salt.
func newParams() params {
	p := params{passes: 3, kibi: 64 << 10, lanes: 4}
	_, _ = rand.Read(p.salt[:]) // never fails (crypto/rand, Go 1.24)
	return p
}

// derived returns the key of a passphrase, which it overwrites.
func derived(passphrase []byte, p params) (*tokencache.KeyRing, error) {
	defer clear(passphrase)
	if len(passphrase) == 0 {
		return nil, errors.New("file: the passphrase is empty")
	}
	return tokencache.NewKeyRing(argon2.IDKey(passphrase, p.salt[:], p.passes, p.kibi, p.lanes, tokencache.KeySize))
}
