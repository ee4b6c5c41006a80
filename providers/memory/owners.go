package memory

import (
	"context"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// SetMark sets the owner's removal mark until it expires; the zero time means
// never. See [tokencache.OwnerIndex]. It waits for Saves of the owner that are
// under way, so that each of them is complete when it returns. The zero mark
// takes a mark away.
func (p *Provider) SetMark(ctx context.Context, owner string, version tokencache.Version, expires time.Time) error {
	if err := p.ready(ctx); err != nil {
		return err
	}
	m := mark{version: version, expires: nanos(expires)}
	if !p.stripes.of(owner).setMark(owner, m, time.Now()) {
		return errFull
	}
	return nil
}

// List returns the names of the owner's partitions that are neither removed nor
// expired. See [tokencache.OwnerIndex].
func (p *Provider) List(ctx context.Context, owner string) ([]tokencache.Name, error) {
	if err := p.ready(ctx); err != nil {
		return nil, err
	}
	return p.stripes.of(owner).list(owner, time.Now()), nil
}

// Sweep drops expired records, marks and leases at once rather than within a
// second or, of marks and leases, when others are made. It returns how many
// records, tombstones and marks have gone since the last Sweep. See
// [tokencache.Sweeper].
func (p *Provider) Sweep(ctx context.Context) (int, error) {
	if err := p.ready(ctx); err != nil {
		return 0, err
	}
	now := time.Now()
	p.records.CleanUp()
	count := int(p.expired.Swap(0))
	for i := range p.stripes.all {
		s := &p.stripes.all[i]
		s.gate.Lock()
		count += s.pruneLocked(now)
		s.gate.Unlock()
	}
	p.leases.prune(now)
	return count, nil
}

// Ping returns nil until the provider is closed.
func (p *Provider) Ping(ctx context.Context) error { return p.ready(ctx) }
