package sql_test

import (
	"context"
	"errors"
	"testing"
	"time"

	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// What others have written into the file harms nobody else, and a sign-in replaces
// it. Every call ends by itself, whatever it finds.
func TestForeignValuesSQLite(t *testing.T) {
	t.Parallel()
	db := handle(t, newFile(t), 4)
	p := newProvider(t, sqlprovider.SQLite(db, nil))
	for name, test := range map[string]struct {
		set  string
		load error
		cond tokencache.Condition // under which it is replaced
	}{
		"short version":    {"version = x'010203'", nil, tokencache.IfVersion(tokencache.Version{})},
		"no version bytes": {"version = x''", nil, tokencache.IfVersion(tokencache.Version{})},
		"long version":     {"version = zeroblob(100000)", nil, tokencache.IfVersion(tokencache.Version{})},
		"two megabytes":    {"sealed = zeroblob(2000000)", tokencache.ErrTooLarge, tokencache.Always()},
		"expired long ago": {"expires = -9223372036854775808", tokencache.ErrNotFound, tokencache.Condition{}},
		"almost never":     {"expires = 9223372036854775806", nil, tokencache.Always()},
		"no contents":      {"sealed = x''", nil, tokencache.Always()},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := within(t, 20*time.Second)
			defer cancel()
			n, first := newName(), record("ours")
			must(t, p.Save(ctx, n, first, tokencache.Condition{}))
			execute(t, db, "coatcheck_", "UPDATE {p}records SET "+test.set+" WHERE owner = ?1", n.Owner)
			got, err := p.Load(ctx, n)
			if !errors.Is(err, test.load) {
				t.Errorf("Load: %v, want %v", err, test.load)
			}
			there := !errors.Is(test.load, tokencache.ErrNotFound)
			if there && err == nil && test.cond == tokencache.IfVersion(tokencache.Version{}) && (got.Removed() || got.Version != tokencache.Version{}) {
				t.Errorf("removed %v, version %v", got.Removed(), got.Version)
			}
			if there { // something is stored
				for _, r := range []tokencache.Record{record("absent"), tombstone()} {
					if err := p.Save(ctx, n, r, tokencache.Condition{}); !errors.Is(err, tokencache.ErrConflict) {
						t.Errorf("where nothing should be: %v", err)
					}
				}
				err := p.Touch(ctx, n, tokencache.NewVersion(), time.Now().Add(time.Hour))
				if !errors.Is(err, tokencache.ErrConflict) {
					t.Errorf("Touch of another version: %v", err)
				}
			}
			next := record("next")
			must(t, p.Save(ctx, n, next, test.cond))
			if got, err = p.Load(ctx, n); err != nil || got.Version != next.Version {
				t.Errorf("after a sign-in: version %v, error %v", got.Version, err)
			}
		})
	}
	for name, set := range map[string]string{"short mark": "x'010203'", "no mark bytes": "x''", "long mark": "zeroblob(100000)"} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := within(t, 20*time.Second)
			defer cancel()
			n, later := newName(), time.Now().Add(time.Hour)
			must(t, p.SetMark(ctx, n.Owner, tokencache.NewVersion(), later))
			execute(t, db, "coatcheck_", "UPDATE {p}owners SET mark = "+set+" WHERE owner = ?1", n.Owner)
			if _, err := p.Load(ctx, n); err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Error("Load:", err)
			}
			if err := p.Save(ctx, n, record("x"), tokencache.Always()); !errors.Is(err, tokencache.ErrRemoved) {
				t.Error("Save:", err)
			}
			r := record("after")
			r.Mark = tokencache.NewVersion()
			must(t, p.SetMark(ctx, n.Owner, r.Mark, later))
			must(t, p.Save(ctx, n, r, tokencache.Condition{}))
		})
	}
}
