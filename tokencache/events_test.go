package tokencache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// log collects events.
type log struct {
	mu     sync.Mutex
	events []tokencache.Event
}

func (l *log) add(_ context.Context, e tokencache.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

// take returns the events so far, as "kind" or "kind detail", and forgets them.
func (l *log) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []string
	for _, e := range l.events {
		list = append(list, strings.TrimSpace(string(e.Kind)+" "+e.Detail))
	}
	l.events = nil
	return list
}

func (l *log) want(t testing.TB, want ...string) {
	t.Helper()
	if got := l.take(); !slices.Equal(got, want) {
		t.Errorf("the events are %q, want %q", got, want)
	}
}

// wantAmong wants these events in this order, whatever is between them.
func (l *log) wantAmong(t testing.TB, want ...string) {
	t.Helper()
	got := l.take()
	rest := got
	for _, w := range want {
		i := slices.Index(rest, w)
		if i < 0 {
			t.Errorf("the events are %q, want %q among them", got, want)
			return
		}
		rest = rest[i+1:]
	}
}

func TestEventsOfAUser(t *testing.T) {
	t.Parallel()
	var events log
	a := newAuthority()
	cache := newCache(t, newProvider(t), &tokencache.Options{Events: events.add})
	events.take() // the watcher's beginning
	ticket := mustSignIn(t, cache, a, "read")
	events.want(t, "load", "save", "sign-in")
	mustToken(t, cache.Partition(ticket.Key()), a, "read")
	events.want(t, "hit")
	mustToken(t, cache.Partition(ticket.Key()), a, "write")
	events.want(t, "miss none", "lease acquired", "load", "refresh", "save")
	mustExpire(t, cache.Partition(ticket.Key()))
	events.want(t, "load", "save")
	if err := cache.Partition(ticket.Key()).SignOut(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	events.want(t, "load", "save removed", "sign-out")
	wantError(t, cache.Partition(ticket.Key()).Check(t.Context()), tokencache.ErrRemoved)
	events.want(t, "load")
	if err := cache.Partition(mustSignIn(t, cache, a).Key()).SignOutEverywhere(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	events.wantAmong(t, "sign-in", "sign-out everywhere")
}

func TestEventsMembers(t *testing.T) {
	t.Parallel()
	var events log
	a := newAuthority()
	cache := newCache(t, newProvider(t), &tokencache.Options{Events: events.add})
	ticket := mustSignIn(t, cache, a, "read")
	events.take()
	p := cache.Partition(ticket.Key())
	mustToken(t, p, a, "write")
	mustToken(t, p, a, "write")
	first := events.events[0]
	for _, e := range events.events {
		if e.Key.Account() != account || e.CorrelationID != first.CorrelationID || e.CorrelationID == "" ||
			e.Partition != first.Partition || len(e.Partition) != 8 || e.Err != nil {
			t.Errorf("the event %v has other members than %v", e, first)
		}
	}
	last := events.events[len(events.events)-1]
	if last.Kind != tokencache.EventHit || last.Source != tokencache.SourceL1 {
		t.Errorf("the last event is %v", last)
	}
	i := slices.IndexFunc(events.events, func(e tokencache.Event) bool { return e.Kind == tokencache.EventRefresh })
	if e := events.events[i]; e.Source != tokencache.SourceServer || e.Duration <= 0 {
		t.Errorf("the refresh is %v", e)
	}
}

func TestEventsOfMachines(t *testing.T) {
	t.Parallel()
	var ones, twos log
	a, provider := newAuthority(), newProvider(t)
	one := newCache(t, provider, &tokencache.Options{Events: ones.add})
	two := newCache(t, provider, &tokencache.Options{Events: twos.add})
	ticket := mustSignIn(t, one, a, "read")
	mustToken(t, two.Partition(ticket.Key()), a, "read")
	twos.take()
	ones.take()
	mustExpire(t, one.Partition(ticket.Key()))
	twos.want(t, "invalidation changed")

	// Both write at the same moment: two comes second, and merges.
	block := &faulty{Provider: provider}
	blocked := newCache(t, block, &tokencache.Options{Events: twos.add})
	twos.take()
	var once sync.Once
	block.set(nil, func(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
		once.Do(func() { mustExpire(t, one.Partition(ticket.Key())) })
		return provider.Save(ctx, n, r, c)
	})
	mustToken(t, blocked.Partition(ticket.Key()), a, "read")
	twos.wantAmong(t, "refresh", "save", "load", "conflict", "save", "merge")
}

func TestEventsOfWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ones, twos log
		a, provider := newAuthority(), newProvider(t)
		one := newCache(t, provider, &tokencache.Options{Events: ones.add})
		two := newCache(t, provider, &tokencache.Options{Events: twos.add})
		ticket := mustSignIn(t, one, a, "read")
		mustExpire(t, one.Partition(ticket.Key()))
		a.before = func(context.Context) error { time.Sleep(time.Second); return nil }
		synctest.Wait()
		ones.take()
		twos.take()
		var wg sync.WaitGroup
		for _, c := range []*tokencache.Cache{one, one, two} {
			wg.Go(func() { mustToken(t, c.Partition(ticket.Key()), a, "read") })
			time.Sleep(time.Millisecond)
		}
		wg.Go(func() { mustToken(t, one.Partition(ticket.Key()), a, "other") })
		wg.Wait()
		ones.wantAmong(t, "lease acquired", "refresh", "save", "wait flight")
		twos.wantAmong(t, "lease busy", "wait lease", "lease acquired", "load")
		a.wantRefreshes(t, 2)
		mustExpire(t, one.Partition(ticket.Key()))
		ones.take()
		wg.Go(func() { mustToken(t, one.Partition(ticket.Key()), a, "read") })
		time.Sleep(time.Millisecond)
		wg.Go(func() { mustToken(t, one.Partition(ticket.Key()), a, "other") })
		wg.Wait()
		ones.wantAmong(t, "wait process", "lease acquired")
	})
}

func TestEventsWithoutLeases(t *testing.T) {
	t.Parallel()
	var events log
	a := newAuthority()
	cache := newCache(t, &faulty{Provider: newProvider(t), hide: noLeases}, &tokencache.Options{Events: events.add})
	ticket := mustSignIn(t, cache, a)
	events.take()
	mustToken(t, cache.Partition(ticket.Key()), a, "read")
	events.want(t, "miss none", "lease none", "load", "refresh", "save")
}

// What an event prints holds neither a token nor an account.
func TestEventsHoldNoSecrets(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	var mu sync.Mutex
	logs := tokencache.LogEvents(slog.New(slog.NewJSONHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug})))
	write := func(ctx context.Context, e tokencache.Event) {
		mu.Lock()
		defer mu.Unlock()
		logs(ctx, e)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
			fmt.Fprintf(&text, verb+"\n", any(e)) // a variable verb, as no vet would let through
		}
		slog.New(slog.NewTextHandler(&text, nil)).Info("event", "event", e)
	}
	a := newAuthority()
	cache := newCache(t, newProvider(t), &tokencache.Options{Events: write})
	ticket := mustSignIn(t, cache, a, "read")
	p := cache.Partition(ticket.Key())
	tok := mustToken(t, p, a, "write")
	a.revokeAll()
	_, err := p.Token(t.Context(), request("third"), a)
	wantError(t, err, tokencache.ErrInvalidGrant)
	_ = p.SignOutEverywhere(t.Context(), a)
	mu.Lock()
	defer mu.Unlock()
	got := text.String()
	for _, want := range []string{"tokencache: refresh", `"detail":"everywhere"`, `"key":"account key"`, "correlation_id", "invalid"} {
		if want == "invalid" {
			want = "refused the refresh token"
		}
		if !strings.Contains(got, want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	for _, secret := range []string{account, string(tok.AccessToken), "refresh-", "access-", "user@example.test"} {
		if strings.Contains(got, secret) {
			t.Errorf("the log holds %.6s…", secret)
		}
	}
}

func TestLogLevels(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		event tokencache.Event
		want  slog.Level
	}{
		{tokencache.Event{Kind: tokencache.EventHit}, slog.LevelDebug},
		{tokencache.Event{Kind: tokencache.EventRefresh}, slog.LevelInfo},
		{tokencache.Event{Kind: tokencache.EventRefresh, Err: errors.New("503")}, slog.LevelWarn},
		{tokencache.Event{Kind: tokencache.EventSave}, slog.LevelInfo},
		{tokencache.Event{Kind: tokencache.EventSave, Err: tokencache.ErrUnavailable}, slog.LevelWarn},
		{tokencache.Event{Kind: tokencache.EventSave, Err: tokencache.ErrConflict}, slog.LevelDebug},
		{tokencache.Event{Kind: tokencache.EventLoad, Err: tokencache.ErrUnavailable}, slog.LevelDebug},
		{tokencache.Event{Kind: tokencache.EventLease, Detail: "acquired"}, slog.LevelDebug},
		{tokencache.Event{Kind: tokencache.EventLease, Detail: "lost"}, slog.LevelWarn},
		{tokencache.Event{Kind: tokencache.EventOutage}, slog.LevelWarn},
		{tokencache.Event{Kind: tokencache.EventRestore}, slog.LevelWarn},
		{tokencache.Event{Kind: tokencache.EventUpkeep, Detail: "renewed", Err: tokencache.ErrBusy}, slog.LevelWarn},
		{tokencache.Event{Kind: tokencache.EventUpkeep, Detail: "renewed"}, slog.LevelDebug},
		{tokencache.Event{Kind: tokencache.EventUnreadable}, slog.LevelError},
	} {
		var text bytes.Buffer
		handler := slog.NewTextHandler(&text, &slog.HandlerOptions{Level: c.want})
		tokencache.LogEvents(slog.New(handler))(t.Context(), c.event)
		if want := "level=" + c.want.String() + ` msg="tokencache: ` + string(c.event.Kind); !strings.Contains(text.String(), want) {
			t.Errorf("%s is logged as %q, want %s", c.event.Kind, text.String(), want)
		}
		text.Reset()
		handler = slog.NewTextHandler(&text, &slog.HandlerOptions{Level: c.want + 1})
		tokencache.LogEvents(slog.New(handler))(t.Context(), c.event)
		if text.Len() > 0 {
			t.Errorf("%s is logged above its level", c.event.Kind)
		}
	}
}
