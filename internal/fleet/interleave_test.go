package fleet

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// interleaveArgs have a process do things for two users at once, so many times.
type interleaveArgs struct {
	Rounds int
	Seed   uint64
}

// interleaved is what it did, by kind, and what must never happen.
type interleaved struct {
	Done     map[string]int
	Errors   map[string]int
	Breaches []string
}

// pair are the two users. All that is one's begins with a mark of theirs.
var pair = [2]string{"marker-ada-", "marker-bob-"}

// account is one of them, in a process.
type account struct {
	child *child
	mark  string
	other string // the mark of the other
	key   tokencache.Key
}

func (c *child) accounts() [2]*account {
	var both [2]*account
	for i, mark := range pair {
		both[i] = &account{child: c, mark: mark, other: pair[1-i], key: tokencache.AccountKey(mark + "account")}
	}
	return both
}

func (c *child) interleave(ctx context.Context, args json.RawMessage) (any, error) {
	var a interleaveArgs
	if err := json.Unmarshal(args, &a); err != nil {
		return nil, errors.New("the arguments are malformed")
	}
	var mu sync.Mutex
	r := interleaved{Done: map[string]int{}, Errors: map[string]int{}}
	both := c.accounts()
	for round := range a.Rounds {
		together(len(both), func(i int) {
			choice := mathrand.New(mathrand.NewPCG(a.Seed, uint64(round*2+i)))
			kind, err := both[i].act(ctx, choice.IntN(100))
			mu.Lock()
			defer mu.Unlock()
			r.Done[kind]++
			if err != nil {
				r.Errors[kindOf(err)]++
			}
		})
	}
	r.Breaches = c.breaches.all()
	return r, nil
}

// act does one of the things that happen to a user. Somebody who has been signed
// out, here or by the other process, signs in again.
func (a *account) act(ctx context.Context, choice int) (kind string, err error) {
	p := a.child.cache.Partition(a.key)
	req := tokencache.Request{Scopes: []string{fmt.Sprintf("%sscope%d", a.mark, choice%3)}}
	switch {
	case choice < 70:
		kind, err = "ask", a.ask(ctx, p, req)
	case choice < 80:
		kind, err = "refresh", a.refresh(ctx, p, req)
	case choice < 85:
		kind, err = "expire", p.Expire(ctx)
	case choice < 88:
		kind, err = "sign out", p.SignOut(ctx, a)
	default:
		kind, err = "open", a.open(ctx)
	}
	if errors.Is(err, tokencache.ErrNoTokens) {
		_, err = a.child.cache.SignIn(ctx, func(context.Context) (tokencache.Grant, error) {
			g := a.grant(req)
			g.Account = tokencache.Account{ID: a.key.Account(), Username: a.mark + "username", Name: a.mark + "name"}
			return g, nil
		})
		kind = "sign in"
	}
	return kind, err
}

func (a *account) ask(ctx context.Context, p *tokencache.Partition, req tokencache.Request) error {
	tok, err := p.Token(ctx, req, a)
	if err == nil && !strings.HasPrefix(string(tok.AccessToken), a.mark) {
		a.child.breaches.add("a request was answered with another user's token")
	}
	return err
}

func (a *account) refresh(ctx context.Context, p *tokencache.Partition, req tokencache.Request) error {
	tok, err := p.Token(ctx, req, a)
	if err != nil {
		return err
	}
	req.Refused = tok.AccessToken
	return a.ask(ctx, p, req)
}

// open reads the user's record as the cache opens it.
func (a *account) open(ctx context.Context) error {
	doc, err := contents(ctx, a.child.cache, a.key)
	if err == nil && (bytes.Contains(doc, []byte(a.other)) || !bytes.Contains(doc, []byte(a.mark))) {
		a.child.breaches.add("a record holds what is another user's")
	}
	return err
}

// The authorization server, as it is for one of the users.
var _ tokencache.Server = (*account)(nil)

// Refresh answers with new tokens of the user.
func (a *account) Refresh(_ context.Context, rt tokencache.Secret, req tokencache.Request) (tokencache.Grant, error) {
	if !strings.HasPrefix(string(rt), a.mark) {
		a.child.breaches.add("a refresh was made with another user's refresh token")
	}
	return a.grant(req), nil
}

// Revoke does nothing.
func (a *account) Revoke(_ context.Context, rt tokencache.Secret) error {
	if !strings.HasPrefix(string(rt), a.mark) {
		a.child.breaches.add("another user's refresh token was revoked")
	}
	return nil
}

func (a *account) grant(req tokencache.Request) tokencache.Grant {
	return tokencache.Grant{
		AccessToken:  tokencache.Secret(a.mark + "access-" + rand.Text()),
		RefreshToken: tokencache.Secret(a.mark + "refresh-" + rand.Text()),
		IDToken:      tokencache.Secret(a.mark + "id-" + rand.Text()),
		Scopes:       req.Scopes,
		Expires:      time.Now().Add(time.Hour),
	}
}

// breaches collects what must never happen, without what is secret in it.
type breaches struct {
	mu   sync.Mutex
	list []string
}

func (b *breaches) add(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list = append(b.list, what)
}

func (b *breaches) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.list
}

// written is a hook that looks at all that is about to be stored.
func (b *breaches) written(_ context.Context, a *tokencache.Access) error {
	if !a.HasTokens {
		return nil
	}
	var doc bytes.Buffer
	if err := a.Tokens.Serialize(&doc); err != nil {
		return err
	}
	for i, mark := range pair {
		if strings.HasPrefix(a.Account, mark) && bytes.Contains(doc.Bytes(), []byte(pair[1-i])) {
			b.add("what is another user's is about to be stored")
		}
	}
	return nil
}

// Two processes work for two users at once, ten thousand times: ask, refresh,
// expire, sign out and in again, in all orders. Nothing of one user's is ever with
// the other, nor can anything be read in the backend or on the way to it.
func TestUsersStayApart(t *testing.T) {
	everyBackend(t, true, func(t *testing.T, s service) {
		rounds := rounds(s, 10_000, 100_000)
		words := append([]string{"scope", "issuer.example", "username"}, encodings(pair[0])...)
		words = append(words, encodings(pair[1])...)
		keys := string(tokencache.NewKeyText())
		seen := s.spy(t, words)
		setups := make([]setup, 2)
		for i := range setups {
			// One looks at all that it writes. The other has no hooks: it takes
			// shorter ways.
			setups[i] = setup{
				Name: fmt.Sprintf("process %d", i), Backend: s.at(), Keys: keys,
				ProviderTimeout: unhurried, LookAtWrites: i == 0,
			}
		}
		fleet := startAll(t, setups)
		done, failed := map[string]int{}, map[string]int{}
		results := make([]interleaved, len(fleet))
		together(len(fleet), func(i int) {
			err := fleet[i].call("interleave", interleaveArgs{rounds / len(fleet), uint64(i)}, &results[i])
			if err != nil {
				t.Error(err)
			}
		})
		for i, r := range results {
			for _, what := range r.Breaches {
				t.Errorf("process %d: %s", i, what)
			}
			for kind, n := range r.Done {
				done[kind] += n
			}
			for kind, n := range r.Errors {
				failed[kind] += n
			}
		}
		checkInterleaved(t, done, failed, rounds)
		sent, found := seen()
		if len(found) > 0 {
			t.Errorf("%d words were sent to the backend in the clear", len(found))
		}
		wantNone(t, s.dump(t), words)
		t.Logf("%d times two users at once: %v, errors %v; the backend was sent %d bytes", rounds, done, failed, sent)
	})
}

// checkInterleaved wants everything to have happened, and next to no errors: two
// who sign in, or sign out and in, at the same moment may be in each other's way.
func checkInterleaved(t *testing.T, done, failed map[string]int, rounds int) {
	t.Helper()
	all := 0
	for _, kind := range []string{"ask", "refresh", "expire", "sign out", "sign in", "open"} {
		if done[kind] < rounds/100 {
			t.Errorf("%q was done %d times", kind, done[kind])
		}
		all += done[kind]
	}
	bad := 0
	for _, n := range failed {
		bad += n
	}
	if all != 2*rounds || bad > rounds/100 {
		t.Errorf("%d things were done, want %d; errors %v", all, 2*rounds, failed)
	}
}
