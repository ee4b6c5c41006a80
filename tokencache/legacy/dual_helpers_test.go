package legacy_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/legacy"
)

const home = "uid.utid"

var formats = []legacy.Format{legacy.MSALv2, legacy.ADALv3}

// authority is an authorization server that rotates refresh tokens and allows no
// grace: whoever spends one twice ends the sign-in.
type authority struct {
	mu     sync.Mutex
	serial int
	live   map[string]bool
	spent  int // refreshes
	reused int
}

func (a *authority) issue() string {
	a.serial++
	token := fmt.Sprintf("marker-refresh-%d", a.serial)
	a.live[token] = true
	return token
}

func newAuthority() *authority { return &authority{live: map[string]bool{}} }

// rotate exchanges a refresh token for another.
func (a *authority) rotate(token string) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.live[token] {
		a.reused++
		clear(a.live)
		return "", tokencache.ErrInvalidGrant
	}
	delete(a.live, token)
	a.spent++
	return a.issue(), nil
}

// signIn begins anew.
func (a *authority) signIn() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.issue()
}

func (a *authority) Refresh(_ context.Context, rt tokencache.Secret, req tokencache.Request) (tokencache.Grant, error) {
	next, err := a.rotate(string(rt))
	if err != nil {
		return tokencache.Grant{}, err
	}
	return grant(next, req.Scopes...), nil
}

func (a *authority) Revoke(_ context.Context, rt tokencache.Secret) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.live, string(rt))
	return nil
}

func grant(refreshToken string, scopes ...string) tokencache.Grant {
	return tokencache.Grant{
		AccessToken: tokencache.Secret("marker-access-" + strings.TrimPrefix(refreshToken, "marker-refresh-")), RefreshToken: tokencache.Secret(refreshToken),
		Scopes: scopes, Expires: time.Now().Add(time.Hour),
	}
}

var errDisk = errors.New("the disk is full")

var refreshToken = regexp.MustCompile(`marker-refresh-\d+`)

// disk is a directory with the files of two formats.
type disk struct {
	dir  string
	mu   sync.Mutex
	fail map[string]error // by "load" or "save" and the format
	seen map[string]int   // calls, likewise
}

func newDisk(t testing.TB) *disk {
	return &disk{dir: t.TempDir(), fail: map[string]error{}, seen: map[string]int{}}
}

// process is another process with the same files.
func (d *disk) process() *disk {
	return &disk{dir: d.dir, fail: map[string]error{}, seen: map[string]int{}}
}

func (d *disk) breaks(op string, f legacy.Format, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail[op+f.String()] = err
}

// stops has no call succeed any more, as if the process had died.
func (d *disk) stops() {
	d.breaks("load", legacy.Unified, errDisk)
}

// goes has every call succeed again.
func (d *disk) goes() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.fail)
}

func (d *disk) call(op string, f legacy.Format) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen[op+f.String()]++
	return d.fail[op+f.String()]
}

// path is where the format is. The older application has names of its own.
func (d *disk) path(f legacy.Format, account, key string) string {
	if f == legacy.Unified {
		return filepath.Join(d.dir, "unified-"+key)
	}
	return filepath.Join(d.dir, "older-"+hex.EncodeToString([]byte(account)))
}

func (d *disk) load(_ context.Context, a *tokencache.Access, f legacy.Format) ([]byte, error) {
	if err := d.call("load", f); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(d.path(f, a.Account, a.SuggestedKey))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

func (d *disk) save(_ context.Context, a *tokencache.Access, f legacy.Format, b []byte) error {
	if err := d.call("save", f); err != nil {
		return err
	}
	path := d.path(f, a.Account, a.SuggestedKey)
	if len(b) > 0 {
		return os.WriteFile(path, b, 0o600)
	}
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// only returns the one file of a kind, "" if there is none.
func (d *disk) only(t testing.TB, kind string) string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(d.dir, kind+"-*"))
	if err != nil || len(list) > 1 {
		t.Fatalf("%d files of the kind %s, %v", len(list), kind, err)
	}
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// content returns the one file of a kind, "" if there is none.
func (d *disk) content(t testing.TB, kind string) string {
	t.Helper()
	path := d.only(t, kind)
	if path == "" {
		return ""
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// write replaces the one file of a kind.
func (d *disk) write(t testing.TB, kind, content string) {
	t.Helper()
	if err := os.WriteFile(d.only(t, kind), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func newDual(t testing.TB, d *disk, f legacy.Format) *tokencache.Cache {
	t.Helper()
	dual := &legacy.Dual{Format: f, Load: d.load, Save: d.save}
	cache, err := tokencache.New(nil, tokencache.Namespace{Issuer: "https://login.example/utid", ClientID: "client"},
		&tokencache.Options{BeforeAccess: dual.BeforeAccess, AfterAccess: dual.AfterAccess})
	if err != nil {
		t.Fatal(err)
	}
	return cache
}

func closeCache(t testing.TB, c *tokencache.Cache) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func startDual(t testing.TB, d *disk, f legacy.Format) *tokencache.Cache {
	t.Helper()
	c := newDual(t, d, f)
	t.Cleanup(func() { closeCache(t, c) })
	return c
}

func user(c *tokencache.Cache) *tokencache.Partition { return c.Partition(tokencache.AccountKey(home)) }

func mustSignIn(t testing.TB, c *tokencache.Cache, a *authority) *tokencache.Partition {
	t.Helper()
	ticket, err := c.SignIn(t.Context(), func(context.Context) (tokencache.Grant, error) {
		g := grant(a.signIn(), "read")
		g.Account = tokencache.Account{ID: home, LocalID: "uid", Tenant: "utid", Username: "n"}
		return g, nil
	})
	if err != nil {
		t.Fatalf("sign in: %v", err)
	}
	return c.Partition(ticket.Key())
}

// read returns what is cached.
func read(t testing.TB, p *tokencache.Partition) (string, error) {
	t.Helper()
	tok, err := p.Token(t.Context(), tokencache.Request{Scopes: []string{"read"}}, nil)
	return string(tok.AccessToken), err
}

// mustRefresh has the cache ask the server.
func mustRefresh(t testing.TB, p *tokencache.Partition, a *authority) {
	t.Helper()
	before := a.spent
	refused, _ := read(t, p)
	tok, err := p.Token(t.Context(), tokencache.Request{Scopes: []string{"read"}, Refused: tokencache.Secret(refused)}, a)
	if err != nil || tok.AccessToken == "" || a.spent != before+1 {
		t.Fatalf("refresh: %v, with %d refreshes", err, a.spent-before)
	}
}

// olderApp is the older application. It knows its own format only, and writes it in
// its own way.
type olderApp struct {
	disk   *disk
	format legacy.Format
	server *authority
}

// token is the refresh token that it finds, "" if there is none for it.
func (o *olderApp) token(t testing.TB) string {
	t.Helper()
	text := o.disk.content(t, "older")
	if o.format == legacy.ADALv3 && !strings.Contains(text, ":::client:::2") { // it is a web app
		return ""
	}
	return refreshToken.FindString(text)
}

func (o *olderApp) store(t testing.TB, token string) {
	t.Helper()
	var b []byte
	switch o.format {
	case legacy.ADALv3:
		b = adalFile("https://login.windows.net/utid/:::r:::client:::2", `{"RefreshToken":"`+token+
			`","Result":{"TenantId":"utid","AccessToken":"marker-old","UserInfo":{"UniqueId":"uid","DisplayableId":"n"}}}`)
	default:
		b = []byte(`[{"Key":"refresh_tokens","Value":[` + quoted(`{"home_account_id":"uid.utid","environment":"login.windows.net","client_id":"client",`+
			`"credential_type":"RefreshToken","secret":"`+token+`"}`) + `]},{"Key":"accounts","Value":[` +
			quoted(`{"home_account_id":"uid.utid","environment":"login.windows.net","realm":"utid","local_account_id":"uid","username":"n"}`) + `]}]`)
	}
	if err := os.WriteFile(o.disk.path(o.format, home, ""), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (o *olderApp) signIn(t testing.TB) {
	t.Helper()
	o.store(t, o.server.signIn())
}

func (o *olderApp) refresh(t testing.TB) {
	t.Helper()
	token := o.token(t)
	if token == "" {
		t.Fatal("the older application finds no token")
	}
	next, err := o.server.rotate(token)
	if err != nil {
		t.Fatalf("the older application: %v", err)
	}
	o.store(t, next)
}

// stage is a test of each format, with the files, the server and both applications.
type stage struct {
	*testing.T
	disk   *disk
	server *authority
	older  *olderApp
	format legacy.Format
}

func onStage(t *testing.T, run func(*stage)) {
	t.Parallel()
	for _, f := range formats {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			d, a := newDisk(t), newAuthority()
			run(&stage{T: t, disk: d, server: a, format: f, older: &olderApp{disk: d, format: f, server: a}})
			if a.reused != 0 {
				t.Errorf("%d refresh tokens were spent twice", a.reused)
			}
		})
	}
}
