package sql_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	sqlprovider "github.com/coatcheck-go/coatcheck/providers/sql"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// smallDisk is a directory of four megabytes, of which nobody else takes any.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("only root may mount a small disk")
	}
	if err := exec.Command("mount", "-t", "tmpfs", "-o", "size=4m", "coatcheck-test", dir).Run(); err != nil {
		t.Skip("a small disk cannot be mounted here:", err)
	}
	t.Cleanup(func() { must(t, exec.Command("umount", dir).Run()) })
	return dir
}

// contents are as large as those of a user with a few tokens.
func contents() string { return strings.Repeat("sealed", 8<<10/6) }

// fill saves for new users until there is no room, and returns what was
// acknowledged.
func fill(t *testing.T, p *sqlprovider.Provider) map[tokencache.Name]tokencache.Record {
	t.Helper()
	saved := map[tokencache.Name]tokencache.Record{}
	for len(saved) < 10_000 {
		n, r := newName(), record(contents())
		err := p.Save(t.Context(), n, r, tokencache.Condition{})
		if err != nil {
			wantText(t, "a save without room", err, "make room")
			return saved
		}
		saved[n] = r
	}
	t.Fatal("there is no end to the disk")
	return nil
}

func stays(t *testing.T, p *sqlprovider.Provider, saved map[tokencache.Name]tokencache.Record) {
	t.Helper()
	for n, r := range saved {
		got, err := p.Load(t.Context(), n)
		if err != nil || got.Version != r.Version || string(got.Sealed) != string(r.Sealed) {
			t.Fatalf("what was acknowledged is version %v, want %v, error %v", got.Version, r.Version, err)
		}
	}
}

// signOutAll removes every user, and returns how many it could not.
func signOutAll(t *testing.T, p *sqlprovider.Provider, saved map[tokencache.Name]tokencache.Record) (failed int) {
	t.Helper()
	for n, r := range saved {
		switch err := p.Save(t.Context(), n, tombstone(), tokencache.IfVersion(r.Version)); {
		case err == nil:
			delete(saved, n)
			if got, err := p.Load(t.Context(), n); err != nil || !got.Removed() {
				t.Errorf("a user who was signed out: error %v", err)
			}
		case errors.Is(err, tokencache.ErrConflict):
			t.Error("a save that failed was carried out")
		default:
			failed++
		}
	}
	return failed
}

// The disk is full of what others have put there, and then has room again. Whether
// something can be changed meanwhile is a matter of what was in the write-ahead log:
// when the file has room for it, everything that was stored can be.
func TestFullDisk(t *testing.T) {
	for name, test := range map[string]struct{ settled bool }{"fresh": {false}, "settled": {true}} {
		t.Run(name, func(t *testing.T) {
			dir, saved := smallDisk(t), map[tokencache.Name]tokencache.Record{}
			db := handle(t, filepath.Join(dir, "coatcheck.db"), 4)
			p := newProvider(t, sqlprovider.SQLite(db, nil))
			for range 20 {
				n, r := newName(), record(contents())
				must(t, p.Save(t.Context(), n, r, tokencache.Condition{}))
				saved[n] = r
			}
			if test.settled {
				changeAll(t, p, saved, 5)                            // so that everything has its size
				execute(t, db, "", "PRAGMA wal_checkpoint(PASSIVE)") // as it happens every few hundred saves
			}
			ballast := fillUp(t, dir)
			stays(t, p, saved)
			changed, failed := changeAll(t, p, saved, 50), 0
			stays(t, p, saved)
			if test.settled {
				failed = signOutAll(t, p, saved)
			}
			t.Logf("on the full disk, %d changes failed, and %d users could not be signed out", changed, failed)
			if test.settled && changed+failed > 0 || !test.settled && changed == 0 {
				t.Error("that is not what a full disk does")
			}
			more := fill(t, p)
			stays(t, p, more)
			stays(t, p, saved)

			must(t, os.Remove(ballast))
			time.Sleep(sqlprovider.RoomPause)
			must(t, p.Save(t.Context(), newName(), record(contents()), tokencache.Condition{}))
			if failed := changeAll(t, p, saved, 1) + signOutAll(t, p, saved) + signOutAll(t, p, more); failed > 0 {
				t.Errorf("with room, %d calls failed", failed)
			}
			sound(t, db)
		})
	}
}

// changeAll replaces each record so many times, and returns how often it could not.
func changeAll(t *testing.T, p *sqlprovider.Provider, saved map[tokencache.Name]tokencache.Record, times int) (failed int) {
	t.Helper()
	for range times {
		for n, r := range saved {
			next := record(contents())
			if err := p.Save(t.Context(), n, next, tokencache.IfVersion(r.Version)); err != nil {
				wantText(t, "a change without room", err, "make room")
				failed++
				continue
			}
			saved[n] = next
		}
	}
	return failed
}

// fillUp takes all the room that is left, and returns the file that did.
func fillUp(t *testing.T, dir string) string {
	t.Helper()
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	must(t, err)
	defer func() { must(t, f.Close()) }()
	for {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			return ballast
		}
	}
}

// The database has reached the most pages that it may have.
func TestFullDatabase(t *testing.T) {
	t.Parallel()
	db := handle(t, newFile(t), 1)
	p := newProvider(t, sqlprovider.SQLite(db, nil))
	execute(t, db, "", "PRAGMA max_page_count = 200")
	saved := fill(t, p)
	users := len(saved)
	stays(t, p, saved)
	if failed := signOutAll(t, p, saved); failed > 0 {
		t.Errorf("%d of %d users could not be signed out", failed, users)
	}
	again := fill(t, p)
	if len(again) < users/2 {
		t.Errorf("what %d users left had room for %d", users, len(again))
	}
	execute(t, db, "", "PRAGMA max_page_count = 1000")
	must(t, p.Save(t.Context(), newName(), record(contents()), tokencache.Condition{}))
	stays(t, p, again)
	sound(t, db)
}
