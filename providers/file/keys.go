package file

import (
	"context"
	"errors"
	"fmt"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// keyOf returns the key of a file that names it. A process asks for it once.
func (v *vault) keyOf(ctx context.Context, h *header, id string) (*tokencache.KeyRing, error) {
	if ring := v.lastKey(id); ring != nil {
		return ring, nil
	}
	asked, err := v.beginAsking(ctx)
	if err != nil {
		return nil, err
	}
	defer asked()
	if ring := v.lastKey(id); ring != nil { // the one before has asked for it
		return ring, nil
	}
	ring, err := v.askKey(ctx, h)
	switch {
	case err != nil:
		return nil, err
	case ring.IDs()[0] == id:
	case h.by == protectedByPhrase:
		return nil, fmt.Errorf("%w: the passphrase is another one", ErrKey)
	default:
		return nil, fmt.Errorf("%w: the operating system's key store has another one: "+
			"the file is another user's or another machine's, or the store was made anew", ErrKey)
	}
	v.keep(nil, ring)
	return ring, nil
}

// lastKey is the key that was used last, if it has this ID.
func (v *vault) lastKey(id string) *tokencache.KeyRing {
	if ring := v.ring.Load(); ring != nil && ring.IDs()[0] == id {
		return ring
	}
	return nil
}

// beginAsking waits until no other goroutine is asking for a key, as that may take as long as
// somebody takes to type a password. The caller calls what it returns.
func (v *vault) beginAsking(ctx context.Context) (asked func(), err error) {
	select {
	case v.asking <- struct{}{}:
		return func() { <-v.asking }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("file: another call is still asking for the key of the token cache: %w", ctx.Err())
	}
}

// askKey asks for the key by which a file is protected.
func (v *vault) askKey(ctx context.Context, h *header) (*tokencache.KeyRing, error) {
	switch {
	case h.by == protectedByPhrase && v.opts.Passphrase == nil:
		return nil, fmt.Errorf("%w: the file is protected by a passphrase, and none was given", ErrKey)
	case h.by == protectedByPhrase:
		return v.derive(ctx, h.params)
	case v.opts.Passphrase != nil:
		return nil, fmt.Errorf("%w: it is in the operating system's key store: open the file without a passphrase", ErrKey)
	}
	ring, err := stored(ctx, v.opts.Name)
	if errors.Is(err, errNoEntry) {
		err = fmt.Errorf("%w: the operating system's key store has none, as if it had been wiped, "+
			"or the file were another user's or another machine's", ErrKey)
	}
	return ring, err
}

// sealing returns how to write over what was read, and with which key. The caller has
// the lock of the file.
func (v *vault) sealing(ctx context.Context, over *view) (h header, ring *tokencache.KeyRing, err error) {
	if over.ring != nil {
		return over.header, over.ring, nil
	}
	asked, err := v.beginAsking(ctx)
	if err != nil {
		return header{}, nil, err
	}
	defer asked()
	h, ring, err = v.choose(ctx, over)
	if err == nil && ring != nil {
		v.keep(nil, ring) // not to ask again for what another process writes with it
	}
	return h, ring, err
}

// choose is sealing for what is not encrypted yet.
func (v *vault) choose(ctx context.Context, over *view) (header, *tokencache.KeyRing, error) {
	if v.opts.Passphrase != nil {
		h := header{by: protectedByPhrase, params: newParams()}
		ring, err := v.derive(ctx, h.params)
		return h, ring, err
	}
	if !over.absent && v.tried {
		return over.header, nil, nil
	}
	v.tried = true
	wait := promptTime
	if !over.absent {
		wait = encryptTime
	}
	asking, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	ring, err := stored(asking, v.opts.Name)
	if errors.Is(err, errNoEntry) {
		ring, err = draw(asking, v.opts.Name)
	}
	switch {
	case err == nil:
		return header{by: protectedByStore}, ring, nil
	case !over.absent && ctx.Err() == nil: // it stays as it is, which open has found to be allowed
	case ctx.Err() != nil || !v.opts.AllowUnencryptedStorage || !errors.Is(err, ErrKeyStore):
		return header{}, nil, err
	default:
		v.opts.Log.WarnContext(ctx, "file: tokens are stored unencrypted, as the operating system's key store does not answer",
			"cache", v.opts.Name, "error", err)
	}
	return header{by: protectedNot}, nil, nil
}

// draw puts a new key into the operating system's store, unless another process is
// first. The entry is one for all directories, of which each has a lock of its own: who
// replaces it by another key costs the others their files. Where there is no default
// directory for the lock on it, it is done without.
func draw(ctx context.Context, name string) (*tokencache.KeyRing, error) {
	free := func() {}
	if dir, err := dataDirectory(); err == nil {
		wait, cancel := context.WithTimeout(ctx, lockTime)
		defer cancel()
		unlock, err := disk{dir: dir, name: name}.lock(wait, keyLock)
		switch {
		case errors.Is(err, ErrLocked):
			return nil, err
		case err == nil:
			free = unlock
		}
	}
	ring, err := stored(ctx, name)
	if errors.Is(err, errNoEntry) {
		return store(ctx, name, free)
	}
	free()
	return ring, err
}

func (v *vault) derive(ctx context.Context, p params) (*tokencache.KeyRing, error) {
	passphrase, err := v.opts.Passphrase(ctx)
	if err != nil {
		return nil, fmt.Errorf("file: no passphrase: %w", err)
	}
	return derived(passphrase, p)
}
