package file

import (
	"context"
	"errors"
	"io/fs"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Provider keeps records in one file. It is safe for concurrent use, by any number of
// processes of one user on one machine. It offers every capability of
// [tokencache.Capabilities] but InProcess, Punctual and Watcher: a disk that hangs is
// waited for, and who reads always reads what is there.
type Provider struct {
	records
	vault *vault
}

var (
	_ tokencache.Provider   = (*Provider)(nil)
	_ tokencache.Leaser     = (*Provider)(nil)
	_ tokencache.Toucher    = (*Provider)(nil)
	_ tokencache.OwnerIndex = (*Provider)(nil)
	_ tokencache.Sweeper    = (*Provider)(nil)
	_ tokencache.Pinger     = (*Provider)(nil)
	_ tokencache.Lister     = (*Provider)(nil)
)

// Open opens the cache that the options name, and begins one if there is none; nil
// options are the defaults. It gets the key from the operating system's store, which may
// ask the user for a password meanwhile: it waits until ctx ends, and for at most two
// minutes. The library for that store knows no deadlines; where it is late, a goroutine
// stays until the store answers. Open starts nothing else, and reads without writing where
// there is a file.
//
// Errors: [ErrKeyStore], [ErrKey], [ErrAccess], [ErrLocked], *[CorruptError]; and those
// of the file system, which say what to do about a disk that is full or read-only.
func Open(ctx context.Context, o *Options) (*Provider, error) {
	opts, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	p := &Provider{vault: newVault(&opts)}
	p.content = p.vault
	w, err := p.vault.look(ctx)
	switch {
	case errors.Is(err, errDamaged):
		_, err = p.vault.read(ctx)
	case err == nil && w.absent:
		err = p.vault.change(ctx, p.vault.begin)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// SetAside gives the file that the options name another name, which it returns, so that
// the next Open begins a new one: for a file whose key is lost for good, after the user
// was asked. Whoever was signed in has to sign in again. It returns "" if there is no
// file. The key in the operating system's store is left alone, in case that the file is
// wanted back.
//
// Errors: [ErrAccess], [ErrLocked], and those of the file system.
func SetAside(ctx context.Context, o *Options) (path string, err error) {
	opts, err := o.withDefaults()
	if err != nil {
		return "", err
	}
	v := newVault(&opts)
	unlock, err := v.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	path, err = v.disk.setAside()
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return path, explain(err)
}

// Capabilities returns what it offers. See [tokencache.Provider].
func (p *Provider) Capabilities() tokencache.Capabilities {
	return tokencache.Capabilities{
		Encrypts: true, Local: true,
		Leaser: p, Toucher: p, Owners: p, Sweeper: p, Pinger: p, Lister: p,
	}
}

// Close forgets the key and what was read. Calls that come after it fail with an error;
// what is under way is completed. Closing again does nothing, and it always returns nil.
func (p *Provider) Close(context.Context) error {
	p.vault.close()
	return nil
}
