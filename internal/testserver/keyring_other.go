//go:build !linux

package testserver

import (
	"errors"
	"testing"
)

// Keyring is a Secret Service, which there is on Linux only.
type Keyring struct{}

// StartKeyring returns [errors.ErrUnsupported].
func StartKeyring() (*Keyring, error) { return nil, errors.ErrUnsupported }

// NewKeyring skips the test.
func NewKeyring(t testing.TB) *Keyring {
	t.Helper()
	t.Skip("a Secret Service runs on Linux only")
	return nil
}

// Env would lead to the session.
func (*Keyring) Env() []string { return nil }

// Use would have the process work in the session.
func (*Keyring) Use(testing.TB) {}

// Lock would lock the keyring.
func (*Keyring) Lock() error { return errors.ErrUnsupported }

// Unlock would unlock it.
func (*Keyring) Unlock() error { return errors.ErrUnsupported }

// Wipe would empty it.
func (*Keyring) Wipe() error { return errors.ErrUnsupported }

// Delete would delete it.
func (*Keyring) Delete() error { return errors.ErrUnsupported }

// Prompt would have it ask.
func (*Keyring) Prompt() error { return errors.ErrUnsupported }

// Kill would end the service.
func (*Keyring) Kill() error { return errors.ErrUnsupported }

// Start would start it again.
func (*Keyring) Start() error { return errors.ErrUnsupported }

// Pause would stop it.
func (*Keyring) Pause() error { return errors.ErrUnsupported }

// Resume would let it go on.
func (*Keyring) Resume() error { return errors.ErrUnsupported }

// Close would end the session.
func (*Keyring) Close() error { return errors.ErrUnsupported }
