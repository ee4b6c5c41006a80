package tokencache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// KeySource returns the text of a key set; [LoadKeys] says what it looks like.
// Any function can be one, such as one that asks a secret manager. [KeyFile] and
// [KeyVariable] return others.
type KeySource func(context.Context) ([]byte, error)

// LoadKeys asks the source once and returns the keys of the set; Seal is a
// [*KeyRing]. To use a changed set, start the process anew.
//
// A key set is a JSON object (RFC 8259) of at most 64 KiB, with white space
// wherever JSON allows it, also on one line. It has these members, in any order,
// each at most once, and no others:
//
//	names    the key that names partitions ([Keys].Names)
//	seal     an array of keys that seal ([KeyRing]); the first encrypts, all decrypt
//	revoked  an array of IDs of keys that must not be used again; may be absent
//
// A key is 32 random bytes in the padded standard base64 of RFC 4648 §4: 44
// characters, as "openssl rand -base64 32" prints them. A key ID is 8 lower-case
// hexadecimal digits ([KeyRing.IDs]).
//
//	{"names": "…", "seal": ["…", "…"], "revoked": ["90abcdef"]}
//
// [NewKeyText] makes a set. To rotate, insert a new key in the second place of
// seal on every machine, and then swap it with the first. To revoke a key, take
// it out of seal and put its ID in revoked: what it sealed is [ErrUnreadable] from
// then on, and a set that still has the key is refused.
//
// Errors: the source's, wrapped, or what is wrong with the set. The latter show
// nothing of the keys.
func LoadKeys(ctx context.Context, source KeySource) (*Keys, error) {
	if source == nil {
		return nil, errors.New("tokencache: the key source is nil")
	}
	text, err := source(ctx)
	if err != nil {
		return nil, fmt.Errorf("tokencache: the key source: %w", err)
	}
	return parseKeys(text)
}

// KeyVariable reads the environment variable of that name. Child processes
// inherit it, and crash reports and inspection tools like to show it: prefer a
// file or a secret manager where there is a choice.
func KeyVariable(name string) KeySource {
	return func(context.Context) ([]byte, error) {
		text := os.Getenv(name)
		if text == "" {
			return nil, fmt.Errorf("the environment variable %s is empty", name)
		}
		return []byte(text), nil
	}
}

// KeyFile reads a file. It must be a regular file that belongs to the process'
// effective user or to root, and that neither the group nor others may read,
// write or execute: mode 0600 or 0400. Symbolic links are followed, and what they
// lead to is checked. Where there are no such modes, as on Windows, neither owner
// nor mode is checked: protect the file with an access control list.
//
// In Kubernetes, set defaultMode: 0400 on the volume of the secret. An fsGroup
// adds a right for the group: mount the secret without one, or use [KeyVariable],
// or a function that calls [os.ReadFile] and so does without the checks.
func KeyFile(path string) KeySource {
	return func(context.Context) (text []byte, err error) {
		f, err := os.OpenFile(path, os.O_RDONLY|openFlags, 0) // #nosec G304 -- the operator names the file
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		info, err := f.Stat() // of what was opened: the path may lead elsewhere by now
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s is not a regular file", path)
		}
		if err := checkAccess(info); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return io.ReadAll(io.LimitReader(f, maxKeyText+1)) // one more than LoadKeys takes
	}
}

// CreateKeyFile writes a new key set ([NewKeyText]) to a new file with the mode
// 0600, and returns when it is on disk. It does not touch a file that is there:
// the error is then [os.ErrExist], wrapped.
func CreateKeyFile(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // #nosec G304 -- the operator names the file
	if err != nil {
		return fmt.Errorf("tokencache: create a key file: %w", err)
	}
	_, err = f.Write(NewKeyText())
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil { // nobody has used it yet
		return fmt.Errorf("tokencache: create a key file: %w", errors.Join(err, os.Remove(path)))
	}
	syncDirectory(filepath.Dir(path))
	return nil
}
