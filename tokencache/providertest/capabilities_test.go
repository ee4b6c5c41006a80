package providertest_test

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func (p *reference) Touch(ctx context.Context, n tokencache.Name, v tokencache.Version, expires time.Time) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r, ok := p.get(n)
	if !ok {
		if p.fault == touchInserts {
			p.records[n] = tokencache.Record{Version: v, Expires: expires}
		}
		return tokencache.ErrNotFound
	}
	if r.Version != v && p.fault != touchAnyVersion {
		return tokencache.ErrConflict
	}
	if p.fault == touchNothing {
		return nil
	}
	r.Expires = expires
	if p.fault == touchNewVersion {
		r.Version = tokencache.NewVersion()
	}
	p.records[n] = r
	return nil
}

func (p *reference) SetMark(ctx context.Context, owner string, mark tokencache.Version, expires time.Time) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault == markKept && p.mark(owner) != (tokencache.Version{}) {
		return nil
	}
	p.marks[p.local(peerMarks, owner)] = tokencache.Record{Version: mark, Expires: expires}
	return nil
}

func (p *reference) List(ctx context.Context, owner string) ([]tokencache.Name, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var names []tokencache.Name
	if p.fault == listNothing {
		return nil, nil
	}
	for n, r := range p.records {
		if n.Owner != owner || r.Removed() && p.fault != listRemoved {
			continue
		}
		if expired(r.Expires) && p.fault != listExpired || p.fault.indexIsWrong() && !p.indexed[n] {
			continue
		}
		names = append(names, n)
	}
	return names, nil
}

type lease struct {
	p       *reference
	name    tokencache.Name
	expires time.Time
}

func (p *reference) Acquire(ctx context.Context, n tokencache.Name, ttl time.Duration) (tokencache.Lease, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n.Partition = p.local(peerLeases, n.Partition)
	held := p.leases[n]
	if held != nil && (!expired(held.expires) || p.fault == leaseForEver) && p.fault != leaseShared {
		if p.fault == leaseReentrant && held.p == p {
			return held, nil
		}
		return nil, tokencache.ErrBusy
	}
	p.pause(leaseThenAct)
	l := &lease{p: p, name: n, expires: time.Now().Add(ttl)}
	p.leases[n] = l
	if p.fault == leaseOfContext {
		context.AfterFunc(ctx, func() { _ = l.Release(context.WithoutCancel(ctx)) })
	}
	return l, nil
}

func (l *lease) Renew(ctx context.Context, ttl time.Duration) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	taken := l.p.leases[l.name] != l
	lost := taken || expired(l.expires) && l.p.fault != leaseRenewsFree
	if lost && l.p.fault != leaseRenewsLost {
		return tokencache.ErrConflict
	}
	if l.p.fault == leaseRenewsNothing {
		return nil
	}
	l.p.leases[l.name] = l
	l.expires = time.Now().Add(ttl)
	return nil
}

func (l *lease) Release(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	if l.p.leases[l.name] == l || l.p.fault == leaseReleasesOther {
		delete(l.p.leases, l.name)
	}
	return nil
}

type watcher struct {
	mu     sync.Mutex
	p      *reference
	notify func(tokencache.Change) // nil once Watch has returned
}

func (w *watcher) tell(c tokencache.Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.notify != nil {
		w.notify(c)
	}
}

func (p *reference) Watch(ctx context.Context, notify func(tokencache.Change)) error {
	w := &watcher{p: p, notify: notify}
	if p.fault == watchGap {
		notify(tokencache.Change{Missed: true})
		time.Sleep(time.Microsecond)
	}
	w.mu.Lock() // so that nothing comes before Missed
	p.mu.Lock()
	p.watchers[w] = true
	p.watches++
	again := p.watches > 1
	p.mu.Unlock()
	switch {
	case p.fault == watchNotMissed, p.fault == watchMissedOnce && again:
		notify(tokencache.Change{})
	case p.fault != watchGap:
		notify(tokencache.Change{Missed: true})
	}
	w.mu.Unlock()
	<-ctx.Done()
	if p.fault == watchGoesOn {
		return ctx.Err()
	}
	p.mu.Lock()
	delete(p.watchers, w)
	p.mu.Unlock()
	w.mu.Lock()
	w.notify = nil
	w.mu.Unlock()
	if p.fault == watchReturnsNil {
		return nil
	}
	return ctx.Err()
}

func (p *reference) tell(c tokencache.Change) {
	p.mu.Lock()
	var all []*watcher
	for w := range p.watchers {
		if p.fault == watchNotOwn && w.p == p || p.fault == peerChanges && w.p != p {
			continue
		}
		all = append(all, w)
	}
	p.told++
	if p.fault == watchLoses && p.told%100 == 0 {
		all = nil
	}
	p.mu.Unlock()
	for _, w := range all {
		w.tell(c)
	}
}

func (p *reference) Sweep(ctx context.Context) (int, error) {
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	swept := 0
	for n, r := range p.records {
		if expired(r.Expires) || p.fault == sweepRemovesLiving && r.Removed() {
			delete(p.records, n)
			swept++
		}
	}
	for owner, m := range p.marks {
		if expired(m.Expires) {
			delete(p.marks, owner)
			swept++
		}
	}
	return swept, nil
}

func (p *reference) Ping(ctx context.Context) error { return ctx.Err() }

// Names pages by the last name. The faults go by what is there now, or here.
func (p *reference) Names(ctx context.Context, cursor string) (names []tokencache.Name, next string, err error) {
	if ctx.Err() != nil && p.fault != namesOfContext {
		return nil, "", ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	owner, partition, ok := strings.Cut(cursor, "/")
	if !ok && cursor != "" && p.fault != namesAnyCursor {
		return nil, "", tokencache.ErrCursor
	}
	for n, r := range p.records {
		if !expired(r.Expires) && (!r.Removed() || p.fault != namesLiving) {
			names = append(names, n)
		}
	}
	if p.fault == namesOfMarks {
		for owner := range p.marks {
			names = append(names, tokencache.Name{Owner: owner})
		}
	}
	compare := func(a, b tokencache.Name) int {
		return cmp.Or(strings.Compare(a.Owner, b.Owner), strings.Compare(a.Partition, b.Partition))
	}
	slices.SortFunc(names, compare)
	last := tokencache.Name{Owner: owner, Partition: partition}
	from, _ := slices.BinarySearchFunc(names, last, func(a, b tokencache.Name) int {
		if p.fault == namesByOwner {
			return cmp.Or(strings.Compare(a.Owner, b.Owner), -1)
		}
		return cmp.Or(compare(a, b), -1)
	})
	if number, err := strconv.Atoi(partition); p.fault == namesByNumber && err == nil {
		from = min(number, len(names))
	}
	if p.fault == namesLocal && cursor != "" && !p.given[cursor] {
		return nil, "", nil
	}
	names = names[from:]
	const size = 100
	switch {
	case p.fault == namesOnePage, len(names) <= size && p.fault != namesEndless:
		return names, "", nil
	case p.fault == namesEndless && len(names) <= size:
		return names, "/", nil
	}
	end := names[size-1]
	if p.fault == namesGap {
		end = names[size]
	}
	if p.fault == namesByNumber {
		end = tokencache.Name{Partition: strconv.Itoa(from + size)}
	}
	next = end.Owner + "/" + end.Partition
	if p.given == nil {
		p.given = make(map[string]bool)
	}
	p.given[next] = true
	return names[:size], next, nil
}
