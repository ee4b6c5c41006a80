package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// world is what the processes of a test share.
type world struct {
	t       *testing.T
	idp     *idp.Server
	tap     *tap
	service service
	keys    string
	cache   *tokencache.Cache // the parent's own
	client  *xoauth2.Client
}

// user is somebody who has signed in.
type user struct {
	ticket string
	key    tokencache.Key
	first  string // digest of the refresh token of the sign-in
}

func newWorld(t *testing.T, s service) *world {
	t.Helper()
	w := &world{t: t, service: s, tap: newTap(t), keys: string(tokencache.NewKeyText())}
	var err error
	w.idp, err = idp.Listen("127.0.0.1:0", &idp.Options{AutoLogin: true})
	check(t, err)
	t.Cleanup(func() {
		ctx, cancel := background()
		defer cancel()
		if err := w.idp.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	own := w.setup("parent")
	own.L1MaxAge = time.Nanosecond // what the parent sees is what is stored
	p, release, err := own.open()
	check(t, err)
	w.cache, err = newCache(t.Context(), p, &own, nil)
	check(t, err)
	var transport *http.Transport
	w.client, transport, err = newClient(t.Context(), w.cache, &own)
	check(t, err)
	t.Cleanup(func() {
		ctx, cancel := background()
		defer cancel()
		if err := errors.Join(w.cache.Close(ctx), release(ctx)); err != nil {
			t.Error(err)
		}
		transport.CloseIdleConnections()
	})
	return w
}

// setup is that of a process in the world.
func (w *world) setup(name string) setup {
	return setup{
		Name: name, Backend: w.service.at(), Keys: w.keys,
		Issuer: w.idp.URL(), Proxy: w.tap.url, ProviderTimeout: unhurried,
	}
}

// fleet starts n processes, each with what change makes of its setup.
func (w *world) fleet(n int, change func(i int, s *setup)) []*process {
	w.t.Helper()
	setups := make([]setup, n)
	for i := range setups {
		setups[i] = w.setup(fmt.Sprintf("process %d", i))
		if change != nil {
			change(i, &setups[i])
		}
	}
	return startAll(w.t, setups)
}

// signIn signs users in, by names that begin as told.
func (w *world) signIn(t *testing.T, prefix string, n int) []user {
	t.Helper()
	browser := &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 16},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer browser.CloseIdleConnections()
	users, errs := make([]user, n), make([]error, n)
	limit := make(chan struct{}, 8)
	together(n, func(i int) {
		limit <- struct{}{}
		defer func() { <-limit }()
		users[i], errs[i] = w.signInOne(t.Context(), browser, fmt.Sprintf("%s%d", prefix, i))
	})
	check(t, errors.Join(errs...))
	return users
}

func (w *world) signInOne(ctx context.Context, browser *http.Client, name string) (user, error) {
	authURL, pending, err := w.client.BeginSignIn(&xoauth2.SignInOptions{LoginHint: name})
	if err != nil {
		return user{}, err
	}
	resp, err := browser.Get(authURL)
	if err != nil {
		return user{}, err
	}
	_ = resp.Body.Close()
	back, err := url.Parse(resp.Header.Get("Location"))
	if err != nil {
		return user{}, errors.New("the server's redirect is malformed")
	}
	ticket, err := w.client.CompleteSignIn(ctx, pending, back.Query())
	if err != nil {
		return user{}, err
	}
	u := user{ticket: ticket.Encode(), key: ticket.Key()}
	u.first, err = w.stored(ctx, u)
	return u, err
}

// stored is the digest of the user's refresh token in the store, by the parent's
// key ring.
func (w *world) stored(ctx context.Context, u user) (string, error) {
	doc, err := contents(ctx, w.cache, u.key)
	if err != nil {
		return "", err
	}
	var d struct {
		RefreshToken map[string]struct{ Secret string }
	}
	if err := json.Unmarshal(doc, &d); err != nil || len(d.RefreshToken) != 1 {
		return "", fmt.Errorf("the record has %d refresh tokens, want 1", len(d.RefreshToken))
	}
	for _, item := range d.RefreshToken {
		return digest(item.Secret), nil
	}
	return "", nil
}

// secrets are all tokens in a user's record.
func (w *world) secrets(t *testing.T, u user) []string {
	t.Helper()
	doc, err := contents(t.Context(), w.cache, u.key)
	check(t, err)
	var d map[string]map[string]struct{ Secret string }
	check(t, json.Unmarshal(doc, &d))
	var all []string
	for _, section := range d {
		for _, item := range section {
			if item.Secret != "" {
				all = append(all, item.Secret)
			}
		}
	}
	return all
}

// contents opens a user's record. They are secrets.
func contents(ctx context.Context, cache *tokencache.Cache, key tokencache.Key) ([]byte, error) {
	tokens, err := cache.Partition(key).Tokens(ctx)
	if err != nil {
		return nil, err
	}
	var doc bytes.Buffer
	err = tokens.Serialize(&doc)
	return doc.Bytes(), err
}

// expire leaves the users with their refresh tokens only.
func (w *world) expire(t *testing.T, users ...user) {
	t.Helper()
	errs := make([]error, len(users))
	limit := make(chan struct{}, 8)
	together(len(users), func(i int) {
		limit <- struct{}{}
		defer func() { <-limit }()
		errs[i] = w.cache.Partition(users[i].key).Expire(t.Context())
	})
	check(t, errors.Join(errs...))
}

func tickets(users []user) []string {
	all := make([]string, len(users))
	for i, u := range users {
		all[i] = u.ticket
	}
	return all
}

// figures are the server's counts since they were taken before.
func (w *world) figures(before idp.Stats) (refreshes, reused, revoked int64) {
	s := w.idp.Stats()
	return s.TokenRequests.RefreshToken - before.TokenRequests.RefreshToken,
		s.RefreshReused - before.RefreshReused, s.FamiliesRevoked - before.FamiliesRevoked
}
