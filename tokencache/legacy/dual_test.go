package legacy_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/legacy"
)

// The users of the older application are signed in here without doing anything, and
// both applications go on refreshing in turns.
func TestDualTakesOver(t *testing.T) {
	onStage(t, func(s *stage) {
		s.older.signIn(s)
		p := user(startDual(s, s.disk, s.format))
		if err := p.Check(s.Context()); err != nil {
			s.Fatal(err)
		}
		for range 12 { // which is more than are noted
			mustRefresh(s, p, s.server)
			s.older.refresh(s)
			s.older.refresh(s)
			mustRefresh(s, p, s.server)
			mustRefresh(s, p, s.server)
			s.older.refresh(s)
		}
		doc := s.disk.content(s, "unified")
		if at := strings.Index(doc, "coatcheck_legacy"); at < 0 || len(doc)-at > 800 {
			s.Errorf("the note is not there or grows: %d bytes", len(doc)-at)
		}
		if n := strings.Count(doc, `"credential_type":"RefreshToken"`); n != 1 {
			s.Errorf("%d refresh tokens are stored", n)
		}
	})
}

// What happens here first reaches the older application too.
func TestDualSignsIn(t *testing.T) {
	onStage(t, func(s *stage) {
		c := startDual(s, s.disk, s.format)
		p := mustSignIn(s, c, s.server)
		if _, err := read(s, p); err != nil {
			s.Error(err)
		}
		if s.format == legacy.ADALv3 { // as MSAL.NET, which does not know that it is a web app
			s.older.store(s, refreshToken.FindString(s.disk.content(s, "older")))
		}
		s.older.refresh(s)
		mustRefresh(s, p, s.server)
		s.older.refresh(s)

		p = mustSignIn(s, c, s.server) // again, in place of what is there
		s.older.refresh(s)
		mustRefresh(s, p, s.server)
		s.older.signIn(s)
		mustRefresh(s, p, s.server)
		s.older.refresh(s)
	})
}

// A web app of ADAL finds its tokens after a sign-in here, although the authority has
// another host.
func TestDualSignsInOverTheOlder(t *testing.T) {
	onStage(t, func(s *stage) {
		s.older.signIn(s)
		c := startDual(s, s.disk, s.format)
		mustSignIn(s, c, s.server)
		s.older.refresh(s)
		mustRefresh(s, user(c), s.server)
	})
}

// An access token that the older application has obtained is served.
func TestDualServesTheOlderAccessToken(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	p := user(startDual(t, d, legacy.MSALv2))
	item := `{"home_account_id":"uid.utid","environment":"login.windows.net","client_id":"client","realm":"utid","target":"read",` +
		`"secret":"marker-access","cached_at":"1","expires_on":"4070908800"}`
	err := os.WriteFile(d.path(legacy.MSALv2, home, ""), []byte(`[{"Key":"access_tokens","Value":[`+quoted(item)+`]}]`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if tok, err := read(t, p); err != nil || tok != "marker-access" {
		t.Errorf("another token, or %v", err)
	}
}

// Whichever of the two saves fails, and whether or not the process lives to repeat it,
// the new refresh token is found by both applications.
func TestDualSaveFails(t *testing.T) {
	for _, broken := range []string{"unified", "older"} {
		t.Run(broken, func(t *testing.T) {
			onStage(t, func(s *stage) {
				synctest.Test(s.T, func(t *testing.T) {
					s.older.signIn(t)
					mustRefresh(t, user(startDual(t, s.disk, s.format)), s.server)
					format := s.format
					if broken == "unified" {
						format = legacy.Unified
					}
					dying := s.disk.process()
					c := newDual(t, dying, s.format)
					dying.breaks("save", format, errDisk)
					mustRefresh(t, user(c), s.server)
					dying.stops()

					mustRefresh(t, user(startDual(t, s.disk, s.format)), s.server)
					s.older.refresh(t)
					mustRefresh(t, user(startDual(t, s.disk, s.format)), s.server)

					dying.goes() // it was only slow
					closeCache(t, c)
					s.older.refresh(t)
					mustRefresh(t, user(startDual(t, s.disk, s.format)), s.server)
				})
			})
		})
	}
}

// A process that lives repeats what failed.
func TestDualSavesLater(t *testing.T) {
	onStage(t, func(s *stage) {
		synctest.Test(s.T, func(t *testing.T) {
			s.older.signIn(t)
			c := newDual(t, s.disk, s.format)
			s.disk.breaks("save", s.format, errDisk)
			mustRefresh(t, user(c), s.server)
			was := s.older.token(t)
			s.disk.breaks("save", s.format, nil)
			closeCache(t, c)
			if s.older.token(t) == was {
				t.Error("the older application still has the spent token")
			}
			s.older.refresh(t)
		})
	})
}

// A store that goes back to what it had before does not bring a spent token back.
func TestDualStoreGoesBack(t *testing.T) {
	onStage(t, func(s *stage) {
		s.older.signIn(s)
		p := user(startDual(s, s.disk, s.format))
		mustRefresh(s, p, s.server)
		for _, kind := range []string{"older", "unified"} {
			for back := 1; back < 5; back++ {
				before := s.disk.content(s, kind)
				for range back {
					mustRefresh(s, p, s.server)
				}
				s.disk.write(s, kind, before)
				if kind == "unified" && back > 1 {
					s.older.refresh(s) // it has the newest
				}
				mustRefresh(s, p, s.server)
				s.older.refresh(s)
			}
		}
	})
}

// Without a note the unified format wins, as with MSAL.NET.
func TestDualFirstContact(t *testing.T) {
	onStage(t, func(s *stage) {
		p := mustSignIn(s, startDual(s, s.disk, s.format), s.server)
		s.older.signIn(s)
		doc := s.disk.content(s, "unified")
		s.disk.write(s, "unified", strings.Replace(doc, "coatcheck_legacy", "no_note", 1))
		own := refreshToken.FindString(doc[strings.Index(doc, `"RefreshToken":{"`):])
		mustRefresh(s, p, s.server)
		if s.server.live[own] {
			s.Error("the token of the older application was spent")
		}
		s.older.refresh(s) // from now on it is known
		mustRefresh(s, p, s.server)
	})
}

// Signing out removes both, and can be repeated when it fails halfway.
func TestDualSignOut(t *testing.T) {
	onStage(t, func(s *stage) {
		synctest.Test(s.T, func(t *testing.T) {
			for _, broken := range []legacy.Format{legacy.Empty, legacy.Unified, s.format} {
				p := mustSignIn(t, startDual(t, s.disk, s.format), s.server)
				s.disk.breaks("save", broken, errDisk)
				err := p.SignOut(t.Context(), nil)
				if broken != legacy.Empty && !errors.Is(err, tokencache.ErrUnavailable) {
					t.Errorf("%v fails: got %v", broken, err)
				}
				if broken == s.format && (s.disk.content(t, "unified") == "" || p.Check(t.Context()) != nil) {
					t.Error("nothing tells which sign-in the rest is from")
				}
				s.disk.breaks("save", broken, nil)
				if err := p.SignOut(t.Context(), s.server); err != nil {
					t.Errorf("again: %v", err)
				}
				if s.disk.content(t, "unified") != "" || s.disk.content(t, "older") != "" {
					t.Error("signed out, and tokens are stored")
				}
				if err := p.Check(t.Context()); !errors.Is(err, tokencache.ErrRemoved) {
					t.Errorf("signed out: got %v", err)
				}
			}
		})
	})
}

// A sign-out of the older application alone signs nobody out here, and the next save
// brings the user back there.
func TestDualSignOutOfTheOlder(t *testing.T) {
	onStage(t, func(s *stage) {
		s.older.signIn(s)
		p := user(startDual(s, s.disk, s.format))
		mustRefresh(s, p, s.server)
		if err := os.Remove(s.disk.only(s, "older")); err != nil {
			s.Fatal(err)
		}
		mustRefresh(s, p, s.server)
		s.older.refresh(s)
	})
}

// A session whose sign-in has ended does not open what the older application brings
// back.
func TestDualKeepsGenerations(t *testing.T) {
	onStage(t, func(s *stage) {
		c := startDual(s, s.disk, s.format)
		p := mustSignIn(s, c, s.server)
		if err := p.SignOut(s.Context(), nil); err != nil {
			s.Fatal(err)
		}
		s.older.signIn(s)
		if err := p.Check(s.Context()); !errors.Is(err, tokencache.ErrNoTokens) {
			s.Errorf("an ended session: got %v", err)
		}
		if err := user(c).Check(s.Context()); err != nil {
			s.Errorf("the account: got %v", err)
		}
	})
}

// What one cannot read signs nobody out and is not overwritten.
func TestDualUnreadable(t *testing.T) {
	onStage(t, func(s *stage) {
		synctest.Test(s.T, func(t *testing.T) {
			s.older.signIn(t)
			c := startDual(t, s.disk, s.format)
			p := user(c)
			mustRefresh(t, p, s.server)
			for _, kind := range []string{"unified", "older"} {
				good := s.disk.content(t, kind)
				for what, bad := range map[string]string{
					"cut": good[:len(good)-3], "of no format": "marker", "of another version": "\x04" + good[1:],
					"too large": strings.Repeat(" ", tokencache.MaxTokensSize) + good, "of another format": otherFormat(t, good),
				} {
					s.disk.write(t, kind, bad)
					wantUnavailable(t, kind+" "+what, c, p)
					if s.disk.content(t, kind) != bad {
						t.Errorf("%s %s: it was overwritten", kind, what)
					}
				}
				s.disk.write(t, kind, good)
			}
			for _, f := range []legacy.Format{legacy.Unified, s.format} { // as a key that is lost
				s.disk.breaks("load", f, fmt.Errorf("%w: marker", tokencache.ErrUnreadable))
				wantUnavailable(t, "a load of "+f.String(), c, p)
				s.disk.breaks("load", f, errDisk)
				wantUnavailable(t, "a load of "+f.String(), c, p)
				s.disk.breaks("load", f, nil)
			}
			mustRefresh(t, p, s.server)
			s.older.refresh(t)
		})
	})
}

// otherFormat is the content in a format that is not to be where it is.
func otherFormat(t testing.TB, content string) string {
	t.Helper()
	var tokens tokencache.Tokens
	f, err := legacy.Read(&tokens, []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return string(mustWrite(t, &tokens, f%3+1))
}

func wantUnavailable(t testing.TB, what string, c *tokencache.Cache, p *tokencache.Partition) {
	t.Helper()
	_, token := read(t, p)
	_, signIn := c.SignIn(t.Context(), func(context.Context) (tokencache.Grant, error) {
		g := grant("marker-refresh-lost", "read")
		g.Account.ID = home
		return g, nil
	})
	for op, err := range map[string]error{"token": token, "sign in": signIn, "sign out": p.SignOut(t.Context(), nil)} {
		if !errors.Is(err, tokencache.ErrUnavailable) || errors.Is(err, tokencache.ErrNoTokens) {
			t.Errorf("%s: %s: the error is not ErrUnavailable alone", what, op)
		}
	}
}

// Where only the unified format is, and does not open, a sign-in replaces it as it does
// without an older one.
func TestDualUnreadableAlone(t *testing.T) {
	onStage(t, func(s *stage) {
		c := startDual(s, s.disk, s.format)
		mustSignIn(s, c, s.server)
		s.disk.write(s, "unified", "marker")
		s.disk.write(s, "older", "\n")
		if err := user(c).Check(s.Context()); !errors.Is(err, tokencache.ErrUnreadable) {
			s.Errorf("got %v", err)
		}
		mustSignIn(s, c, s.server)
		mustRefresh(s, user(c), s.server)
	})
}

// A save that finds somebody else's is made again, on top of it.
func TestDualConflict(t *testing.T) {
	onStage(t, func(s *stage) {
		s.older.signIn(s)
		for _, f := range []legacy.Format{legacy.Unified, s.format} {
			other := s.disk.process()
			dual := &legacy.Dual{Format: s.format}
			conflicts, stale := 0, false
			dual.Load = func(ctx context.Context, a *tokencache.Access, format legacy.Format) ([]byte, error) {
				stale = false
				return other.load(ctx, a, format)
			}
			dual.Save = func(ctx context.Context, a *tokencache.Access, format legacy.Format, b []byte) error {
				if format == f && conflicts == 0 {
					conflicts, stale = conflicts+1, true
					return fmt.Errorf("%w: somebody was faster", tokencache.ErrConflict)
				}
				if stale {
					s.Error("what is there was not read again after a conflict")
				}
				return other.save(ctx, a, format, b)
			}
			c, err := tokencache.New(nil, tokencache.Namespace{Issuer: "https://login.example/utid", ClientID: "client"},
				&tokencache.Options{BeforeAccess: dual.BeforeAccess, AfterAccess: dual.AfterAccess})
			if err != nil {
				s.Fatal(err)
			}
			mustRefresh(s, user(c), s.server)
			closeCache(s, c)
			s.older.refresh(s)
			mustRefresh(s, user(startDual(s, s.disk, s.format)), s.server)
		}
	})
}

// Partitions that are no user's own are not the older application's.
func TestDualOtherPartitions(t *testing.T) {
	onStage(t, func(s *stage) {
		c := startDual(s, s.disk, s.format)
		s.disk.breaks("load", s.format, errDisk)
		s.disk.breaks("save", s.format, errDisk)
		p := c.Partition(tokencache.ApplicationKey("", "api"))
		first, err := p.Token(s.Context(), tokencache.Request{Scopes: []string{"api/.default"}}, appServer{})
		if err != nil {
			s.Fatal(err)
		}
		again, err := p.Token(s.Context(), tokencache.Request{Scopes: []string{"api/.default"}}, nil)
		if err != nil || again.AccessToken != first.AccessToken {
			s.Errorf("again: %v", err)
		}
		if n := s.disk.seen["load"+s.format.String()] + s.disk.seen["save"+s.format.String()]; n != 0 {
			s.Errorf("the older format was asked for %d times", n)
		}
		if err := p.SignOut(s.Context(), nil); err != nil || s.disk.content(s, "unified") != "" {
			s.Errorf("removed: %v", err)
		}
	})
}

// appServer issues tokens to the application itself.
type appServer struct{}

func (appServer) Refresh(context.Context, tokencache.Secret, tokencache.Request) (tokencache.Grant, error) {
	return grant("", "api/.default"), nil
}
func (appServer) Revoke(context.Context, tokencache.Secret) error { return nil }

// Mistakes of the program are errors, and not empty caches.
func TestDualMistakes(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	for name, dual := range map[string]*legacy.Dual{
		"no format": {Load: d.load, Save: d.save},
		"unified":   {Format: legacy.Unified, Load: d.load, Save: d.save},
		"no Load":   {Format: legacy.MSALv2, Save: d.save},
		"no Save":   {Format: legacy.MSALv2, Load: d.load},
	} {
		a := &tokencache.Access{Key: tokencache.AccountKey(home), Tokens: &tokencache.Tokens{}, HasStateChanged: true}
		if dual.BeforeAccess(t.Context(), a) == nil || dual.AfterAccess(t.Context(), a) == nil {
			t.Errorf("%s: no error", name)
		}
	}
	dual := &legacy.Dual{Format: legacy.MSALv2, Load: d.load, Save: d.save}
	a := &tokencache.Access{Key: tokencache.AccountKey(home), HasStateChanged: true, HasTokens: true} // as with a provider
	if dual.BeforeAccess(t.Context(), a) == nil || dual.AfterAccess(t.Context(), a) == nil {
		t.Error("a provider: no error")
	}
	if len(d.seen) != 0 {
		t.Error("the files were looked at")
	}
}

// Where there is too much for both together, or for the older format alone, access
// tokens give way, and nobody is signed out.
func TestDualTooMuch(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ here, there string }{
		"together":                 {strings.Repeat("a", tokencache.MaxTokensSize*2/3), strings.Repeat("a", tokencache.MaxTokensSize*2/3)},
		"texts in a text are more": {strings.Repeat(`"`, tokencache.MaxTokensSize/3), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, a := newDisk(t), newAuthority()
			c := startDual(t, d, legacy.MSALv2)
			_, err := c.SignIn(t.Context(), func(context.Context) (tokencache.Grant, error) {
				g := grant(a.signIn(), "read")
				g.AccessToken = tokencache.Secret("marker-" + tt.here)
				g.Account = tokencache.Account{ID: home, Tenant: "utid"}
				return g, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			older := &olderApp{disk: d, format: legacy.MSALv2, server: a}
			older.refresh(t)
			item := quoted(`{"home_account_id":"uid.utid","environment":"login.windows.net","client_id":"client","realm":"utid","target":"other",` +
				`"expires_on":"4070908800","secret":"marker-` + tt.there + `"}`)
			d.write(t, "older", strings.Replace(d.content(t, "older"), `[{`, `[{"Key":"access_tokens","Value":[`+item+`]},{`, 1))
			mustRefresh(t, user(c), a)
			older.refresh(t)
			if a.reused != 0 {
				t.Error("a refresh token was spent twice")
			}
		})
	}
}

// A guest whom ADAL 3 knows by their ID in the foreign directory is recognised once
// both are known.
func TestDualGuest(t *testing.T) {
	t.Parallel()
	d, a := newDisk(t), newAuthority()
	c := startDual(t, d, legacy.ADALv3)
	ticket, err := c.SignIn(t.Context(), func(context.Context) (tokencache.Grant, error) {
		g := grant(a.signIn(), "read")
		g.Account = tokencache.Account{ID: home, LocalID: "OID", Tenant: "host", Username: "n"}
		return g, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		next, err := a.rotate(refreshToken.FindString(d.content(t, "older")))
		if err != nil {
			t.Fatalf("the older application: %v", err)
		}
		d.write(t, "older", string(adalFile("https://login.windows.net/host/:::r:::client:::2",
			`{"RefreshToken":"`+next+`","Result":{"TenantId":"host","UserInfo":{"UniqueId":"oid","DisplayableId":"n"}}}`)))
		mustRefresh(t, c.Partition(ticket.Key()), a)
	}
}

// Whatever the two applications do in turn, and whichever saves fail, neither spends a
// token twice, and both find one.
func TestDualProperties(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// Without the test's Deadline, which means nothing in a bubble.
		rapid.Check(struct{ rapid.TB }{t}, func(r *rapid.T) {
			turns(t, r, rapid.SampledFrom(formats).Draw(r, "format"))
		})
	})
}

func turns(t *testing.T, r *rapid.T, f legacy.Format) {
	d, a := newDisk(t), newAuthority()
	older := &olderApp{disk: d, format: f, server: a}
	older.signIn(t)
	processes := map[*tokencache.Cache]*disk{}
	var caches []*tokencache.Cache
	start := func(d *disk) *tokencache.Cache {
		c := newDual(t, d, f)
		caches, processes[c] = append(caches, c), d
		return c
	}
	c := start(d)
	dies := func(format legacy.Format) {
		other := d.process()
		other.breaks("save", format, errDisk)
		mustRefresh(t, user(start(other)), a)
		other.stops()
	}
	for range rapid.IntRange(1, 8).Draw(r, "turns") {
		switch rapid.IntRange(0, 9).Draw(r, "turn") {
		case 0:
			older.refresh(t)
		case 1:
			mustRefresh(t, user(c), a)
		case 2:
			dies(legacy.Unified)
		case 3:
			dies(f)
			mustRefresh(t, user(c), a) // or the older application has what is spent
		case 4:
			mustSignIn(t, c, a)
		case 5:
			older.signIn(t)
		case 6:
			c = start(d)
		case 7, 8: // mostly, nothing fails
			older.refresh(t)
		case 9:
			mustRefresh(t, user(c), a)
		}
	}
	for _, c := range caches { // the late come too
		processes[c].goes()
		closeCache(t, c)
	}
	c = newDual(t, d, f)
	mustRefresh(t, user(c), a)
	closeCache(t, c)
	older.refresh(t)
	if a.reused != 0 {
		r.Fatalf("%d refresh tokens were spent twice", a.reused)
	}
}
