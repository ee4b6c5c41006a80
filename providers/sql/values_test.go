package sql_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// What others have written into the tables harms nobody else, and a sign-in
// replaces it.
func TestForeignValues(t *testing.T) {
	t.Parallel()
	ctx, o := t.Context(), &sqlprovider.Options{Prefix: newPrefix()}
	db := pool(t, sharedURL(t))
	p := newProvider(t, sqlprovider.Postgres(db, o))
	_, err := db.Exec(ctx, strings.ReplaceAll(`ALTER TABLE {p}records ALTER expires DROP NOT NULL, ALTER version DROP NOT NULL;
		ALTER TABLE {p}owners ALTER mark_expires DROP NOT NULL, ALTER expires DROP NOT NULL;
		ALTER TABLE {p}leases ALTER expires DROP NOT NULL`, "{p}", o.Prefix))
	must(t, err)
	for name, test := range map[string]struct {
		set  string
		load error
		cond tokencache.Condition // under which it is replaced
	}{
		"short version":      {"version = '\\x010203'", nil, tokencache.IfVersion(tokencache.Version{})},
		"no version bytes":   {"version = ''", nil, tokencache.IfVersion(tokencache.Version{})},
		"version NULL":       {"version = NULL", tokencache.ErrNotFound, tokencache.Always()},
		"long version":       {"version = decode(repeat('ab', 5000000), 'hex')", nil, tokencache.IfVersion(tokencache.Version{})},
		"five megabytes":     {"sealed = decode(repeat('ab', 5000000), 'hex')", tokencache.ErrTooLarge, tokencache.Always()},
		"expires NULL":       {"expires = NULL", tokencache.ErrNotFound, tokencache.Condition{}},
		"expired long ago":   {"expires = -9223372036854775808", tokencache.ErrNotFound, tokencache.Condition{}},
		"almost never":       {"expires = 9223372036854775806", nil, tokencache.Always()},
		"change of nobody":   {"change = '18446744073709551615'", nil, tokencache.Always()},
		"replaced of nobody": {"replaced = '\\x01'", nil, tokencache.Always()},
		"no contents":        {"sealed = ''", nil, tokencache.Always()},
	} {
		t.Run(name, func(t *testing.T) {
			n := newName()
			must(t, p.Save(ctx, n, record("ours"), tokencache.Condition{}))
			_, err := db.Exec(ctx, "UPDATE "+o.Prefix+"records SET "+test.set+" WHERE owner = $1", n.Owner)
			must(t, err)
			got, err := p.Load(ctx, n)
			if !errors.Is(err, test.load) || test.load == nil && err != nil {
				t.Errorf("Load: %v, want %v", err, test.load)
			}
			if strings.Contains(name, "version") && err == nil && (got.Removed() || got.Version != tokencache.Version{}) {
				t.Errorf("removed %v, version %v", got.Removed(), got.Version)
			}
			_, err = p.List(ctx, n.Owner)
			must(t, err)
			next := record("next")
			must(t, p.Save(ctx, n, next, test.cond))
			if got, err = p.Load(ctx, n); err != nil || got.Version != next.Version {
				t.Errorf("after a sign-in: version %v, error %v", got.Version, err)
			}
		})
	}
	for name, set := range map[string]string{
		"short mark": "mark = '\\x010203'", "long mark": "mark = decode(repeat('ab', 5000000), 'hex')", "mark of nothing": "mark = ''",
		"mark's expiry NULL": "mark_expires = NULL", "row's expiry NULL": "expires = NULL",
	} {
		t.Run(name, func(t *testing.T) {
			n, later := newName(), time.Now().Add(time.Hour)
			must(t, p.SetMark(ctx, n.Owner, tokencache.NewVersion(), later))
			_, err := db.Exec(ctx, "UPDATE "+o.Prefix+"owners SET "+set+" WHERE owner = $1", n.Owner)
			must(t, err)
			if _, err := p.Load(ctx, n); err == nil {
				t.Error("something was loaded")
			}
			mark := tokencache.NewVersion()
			must(t, p.SetMark(ctx, n.Owner, mark, later))
			r := record("after")
			r.Mark = mark
			must(t, p.Save(ctx, n, r, tokencache.Condition{}))
		})
	}
	n := newName()
	_, err = p.Acquire(ctx, n, time.Hour)
	must(t, err)
	_, err = db.Exec(ctx, fmt.Sprintf("UPDATE %sleases SET expires = NULL, holder = decode(repeat('ab', 5000000), 'hex')", o.Prefix))
	must(t, err)
	if _, err := p.Acquire(ctx, n, time.Hour); err != nil {
		t.Error("a lease of nobody:", err)
	}
	_, err = p.Sweep(ctx)
	must(t, err)
}

// Names are the caller's, and may be anything that is text.
func TestNames(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	p := newProvider(t, sqlprovider.Postgres(pool(t, sharedURL(t)), &sqlprovider.Options{Prefix: newPrefix()}))
	for _, s := range []string{`'; DROP TABLE x; --`, `"`, `$1`, `\`, "ä", "%", "a", "A", " a", "a "} {
		n, r := tokencache.Name{Owner: s, Partition: s}, record("named")
		must(t, p.Save(ctx, n, r, tokencache.Condition{}))
		if got, err := p.Load(ctx, n); err != nil || got.Version != r.Version {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"\x00", "\xff", strings.Repeat("x", 1<<20)} { // no text, or too long for an index
		n := tokencache.Name{Owner: s, Partition: s}
		err := p.Save(ctx, n, record("named"), tokencache.Condition{})
		if err == nil && len(s) < 100 {
			t.Errorf("%q was saved", s)
		}
		wantClean(t, "a name that is none", err)
	}
}
