package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// askArgs is a crowd of requests, each for the token of one user.
type askArgs struct {
	Tickets    []string
	Repeat     int      // for each user; 1 if it is 0
	Goroutines int      // that share the requests; 1 if it is 0
	Scopes     []string // the usual one if there are none
	Force      bool     // each asks twice, and says that the first token was refused
	Shuffle    uint64   // another order for each, none for 0
	At         int64    // when to begin, by ticks; at once for 0
}

// report is what became of the requests.
type report struct {
	OK      int
	Sources map[string]int
	// Errors counts the others by the kind of their error, and Failed has the
	// users whose requests they were.
	Errors map[string]int
	Failed map[int]string
	// Tokens has a digest of every token that was got.
	Tokens []string
	// Slowest is the time of the slowest request, and Slow has those users who
	// waited for longer than a second.
	Slowest time.Duration
	Slow    map[int]time.Duration
}

func (c *child) ask(ctx context.Context, args json.RawMessage) (any, error) {
	var a askArgs
	if err := json.Unmarshal(args, &a); err != nil {
		return nil, errors.New("the arguments are malformed")
	}
	keys := make([]tokencache.Key, len(a.Tickets))
	for i, text := range a.Tickets {
		ticket, err := tokencache.ParseTicket(text)
		if err != nil {
			return nil, err
		}
		keys[i] = ticket.Key()
	}
	order := make([]int, 0, len(keys)*max(a.Repeat, 1))
	for range max(a.Repeat, 1) {
		for i := range keys {
			order = append(order, i)
		}
	}
	if a.Shuffle > 0 {
		source := rand.New(rand.NewPCG(a.Shuffle, 0))
		source.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	}
	queue := make(chan int, len(order))
	for _, i := range order {
		queue <- i
	}
	close(queue)
	r := newReport()
	waitUntil(a.At)
	together(max(a.Goroutines, 1), func(int) {
		for i := range queue {
			began := time.Now()
			tok, err := c.token(ctx, keys[i], &a)
			r.add(i, tok, err, time.Since(began))
		}
	})
	return &r.report, nil
}

// token asks as a request of the user would.
func (c *child) token(ctx context.Context, key tokencache.Key, a *askArgs) (tokencache.Token, error) {
	scopes := a.Scopes
	if len(scopes) == 0 {
		scopes = []string{usualScope}
	}
	ctx = tokencache.NewContext(ctx, c.cache.Partition(key))
	req := tokencache.Request{Scopes: scopes}
	if a.Force {
		tok, err := c.client.Acquire(ctx, req)
		if err != nil {
			return tok, err
		}
		req.Refused = tok.AccessToken
	}
	return c.client.Acquire(ctx, req)
}

type reporter struct {
	mu     sync.Mutex
	report report
	tokens map[string]bool
}

func newReport() *reporter {
	return &reporter{
		tokens: map[string]bool{},
		report: report{
			Sources: map[string]int{}, Errors: map[string]int{}, Failed: map[int]string{}, Slow: map[int]time.Duration{},
		},
	}
}

func (r *reporter) add(user int, tok tokencache.Token, err error, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &r.report
	p.Slowest = max(p.Slowest, took)
	if took > time.Second {
		p.Slow[user] = max(p.Slow[user], took)
	}
	if err != nil {
		kind := kindOf(err)
		p.Errors[kind]++
		p.Failed[user] = kind
		return
	}
	p.OK++
	p.Sources[tok.Source.String()]++
	if d := digest(string(tok.AccessToken)); !r.tokens[d] {
		r.tokens[d] = true
		p.Tokens = append(p.Tokens, d)
	}
}

// digest tells tokens apart and nothing about them.
func digest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:12])
}

// waitUntil waits until a time by ticks.
func waitUntil(at int64) {
	if left := at - ticks(); at > 0 && left > 0 {
		time.Sleep(time.Duration(left))
	}
}

// kindOf is an error as the README tells them apart.
func kindOf(err error) string {
	var interaction *tokencache.InteractionRequiredError
	for _, known := range []struct {
		name string
		is   bool
	}{
		{"invalid grant", errors.Is(err, tokencache.ErrInvalidGrant)},
		{"removed", errors.Is(err, tokencache.ErrRemoved)},
		{"unreadable", errors.Is(err, tokencache.ErrUnreadable)},
		{"no tokens", errors.Is(err, tokencache.ErrNoTokens)},
		{"busy", errors.Is(err, tokencache.ErrBusy)},
		{"unavailable", errors.Is(err, tokencache.ErrUnavailable)},
		{"conflict", errors.Is(err, tokencache.ErrConflict)},
		{"interaction", errors.As(err, &interaction)},
	} {
		if known.is {
			return known.name
		}
	}
	return err.Error() // of the authorization server, or worse; it shows no secret
}

// peekArgs name a user.
type peekArgs struct {
	Ticket string
	Scopes []string
}

// peek tells where a token is cached, without asking for a new one: a source, or
// the kind of an error.
func (c *child) peek(ctx context.Context, args json.RawMessage) (any, error) {
	var a peekArgs
	if err := json.Unmarshal(args, &a); err != nil {
		return nil, errors.New("the arguments are malformed")
	}
	ticket, err := tokencache.ParseTicket(a.Ticket)
	if err != nil {
		return nil, err
	}
	if len(a.Scopes) == 0 {
		a.Scopes = []string{usualScope}
	}
	tok, err := c.cache.Partition(ticket.Key()).Token(ctx, tokencache.Request{Scopes: a.Scopes}, nil)
	if err != nil {
		return kindOf(err), nil
	}
	return tok.Source.String(), nil
}
