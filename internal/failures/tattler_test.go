package failures_test

import (
	"context"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// tattler tells of each write before it is made. It watches nothing: a message
// would be taken for the reply that is to be lost.
type tattler struct {
	tokencache.Provider
	before func(call string)
}

func (p *tattler) Save(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
	p.before("save")
	return p.Provider.Save(ctx, n, r, c)
}

func (p *tattler) Capabilities() tokencache.Capabilities {
	caps := p.Provider.Capabilities()
	caps.Watcher = nil
	caps.Leaser = tattlingLeaser{caps.Leaser, p}
	caps.Toucher = tattlingToucher{caps.Toucher, p}
	caps.Owners = tattlingOwners{caps.Owners, p}
	return caps
}

type tattlingLeaser struct {
	tokencache.Leaser
	p *tattler
}

func (l tattlingLeaser) Acquire(ctx context.Context, n tokencache.Name, ttl time.Duration) (tokencache.Lease, error) {
	l.p.before("acquire")
	lease, err := l.Leaser.Acquire(ctx, n, ttl)
	if err != nil {
		return nil, err
	}
	return tattlingLease{lease, l.p}, nil
}

type tattlingLease struct {
	tokencache.Lease
	p *tattler
}

func (l tattlingLease) Renew(ctx context.Context, ttl time.Duration) error {
	l.p.before("renew")
	return l.Lease.Renew(ctx, ttl)
}

func (l tattlingLease) Release(ctx context.Context) error {
	l.p.before("release")
	return l.Lease.Release(ctx)
}

type tattlingToucher struct {
	tokencache.Toucher
	p *tattler
}

func (t tattlingToucher) Touch(ctx context.Context, n tokencache.Name, v tokencache.Version, expires time.Time) error {
	t.p.before("touch")
	return t.Toucher.Touch(ctx, n, v, expires)
}

type tattlingOwners struct {
	tokencache.OwnerIndex
	p *tattler
}

func (o tattlingOwners) SetMark(ctx context.Context, owner string, mark tokencache.Version, expires time.Time) error {
	o.p.before("mark")
	return o.OwnerIndex.SetMark(ctx, owner, mark, expires)
}

func (o tattlingOwners) List(ctx context.Context, owner string) ([]tokencache.Name, error) {
	o.p.before("list")
	return o.OwnerIndex.List(ctx, owner)
}
