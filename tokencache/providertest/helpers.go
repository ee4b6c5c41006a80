package providertest

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// broken ends the test: the provider broke the rule.
func (e *env) broken(rule, format string, args ...any) {
	e.Helper()
	e.breach(rule, format, args...)
	e.FailNow()
}

// breach reports a broken rule and goes on. Goroutines of a test use it, which
// must not end the test.
func (e *env) breach(rule, format string, args ...any) {
	e.Helper()
	e.Errorf("the contract says: %q\n\tbut: %s", rule, fmt.Sprintf(format, args...))
}

// want reports an error other than the one that the rule asks for; nil is one.
func (e *env) want(rule string, got, want error, what string) {
	e.Helper()
	if want == nil && got == nil || want != nil && errors.Is(got, want) {
		return
	}
	e.broken(rule, "%s: got error %v, want %v", what, got, want)
}

// save saves a record that nothing stands against.
func (e *env) save(p tokencache.Provider, n tokencache.Name, r tokencache.Record, c tokencache.Condition) {
	e.Helper()
	e.want(ruleSave, p.Save(e.ctx, n, r, c), nil, "Save whose condition holds")
}

// create saves a new record under a new name.
func (e *env) create(r tokencache.Record) tokencache.Name {
	e.Helper()
	n := newName()
	e.save(e.p, n, r, tokencache.Condition{})
	return n
}

// wantStored reports if p does not answer with the record.
func (e *env) wantStored(rule string, p tokencache.Provider, n tokencache.Name, want tokencache.Record) {
	e.Helper()
	got, err := p.Load(e.ctx, n)
	if err != nil {
		e.broken(rule, "Load of what was stored: error %v", err)
	}
	if got.Version != want.Version {
		e.broken(rule, "Load shows version %v, want %v", got.Version, want.Version)
	}
	if !bytes.Equal(got.Sealed, want.Sealed) {
		e.broken(rule, "Load shows other content: %s, want %s", describe(got.Sealed), describe(want.Sealed))
	}
	// Backends round, some to whole milliseconds, and some keep a remaining
	// life rather than a date.
	if off := got.Expires.Sub(want.Expires).Abs(); off > time.Second {
		e.broken(rule, "Load shows expiry %v, want %v", got.Expires, want.Expires)
	}
}

// wantAbsent reports if p has anything under the name.
func (e *env) wantAbsent(rule string, p tokencache.Provider, n tokencache.Name) {
	e.Helper()
	got, err := p.Load(e.ctx, n)
	if !errors.Is(err, tokencache.ErrNotFound) {
		e.broken(rule, "Load of what is not there: version %v, error %v, want ErrNotFound", got.Version, err)
	}
	if len(got.Sealed) > 0 {
		e.broken(rule, "Load returned %s along with ErrNotFound", describe(got.Sealed))
	}
}

// soon is an expiry that outlast waits out.
func (e *env) soon() time.Time { return time.Now().Add(e.expiry) }

// outlast waits until everything that expired soon has expired. The half more
// is for backends whose clock is not quite ours.
func (e *env) outlast() { time.Sleep(e.expiry + e.expiry/2) }

// later is an expiry that no test waits for.
func later() time.Time { return time.Now().Add(time.Hour) }

// newName returns a name as a Cache makes them: base64url of 32 bytes.
func newName() tokencache.Name {
	return tokencache.Name{Owner: newHash(), Partition: newHash()}
}

func newHash() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// record returns a record that never expires, under a new version.
func record(content string) tokencache.Record {
	return tokencache.Record{Sealed: []byte(content), Version: tokencache.NewVersion()}
}

// tombstone returns a tombstone that never expires, under a new version.
func tombstone() tokencache.Record {
	return tokencache.Record{Version: tokencache.NewVersion()}
}

func expiring(r tokencache.Record, at time.Time) tokencache.Record {
	r.Expires = at
	return r
}

func marked(r tokencache.Record, mark tokencache.Version) tokencache.Record {
	r.Mark = mark
	return r
}

// describe keeps failures short: contents are up to a megabyte.
func describe(b []byte) string {
	const most = 24
	if len(b) <= most {
		return fmt.Sprintf("%d bytes %q", len(b), b)
	}
	return fmt.Sprintf("%d bytes %q…", len(b), b[:most])
}
