package sql

import (
	"context"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// SetMark replaces the owner's mark. See [tokencache.OwnerIndex].
func (p *Provider) SetMark(ctx context.Context, owner string, mark tokencache.Version, expires time.Time) error {
	return p.db.setMark(ctx, owner, mark, lifeUntil(expires))
}

// List reads the owner's partitions. See [tokencache.OwnerIndex].
func (p *Provider) List(ctx context.Context, owner string) ([]tokencache.Name, error) {
	partitions, err := p.db.list(ctx, owner)
	if err != nil {
		return nil, err
	}
	names := make([]tokencache.Name, len(partitions))
	for i, partition := range partitions {
		names[i] = tokencache.Name{Owner: owner, Partition: partition}
	}
	return names, nil
}

// Sweep removes what is over, in small steps that hold nobody up: records, marks,
// and what they leave behind. See [tokencache.Sweeper]. Nothing is removed by
// itself: run it every few minutes, on one machine or on all. If ctx ends before
// everything is removed, it returns how many were, and the error.
func (p *Provider) Sweep(ctx context.Context) (int, error) {
	total := 0
	for {
		count, more, err := p.db.sweep(ctx)
		total += count
		if err != nil || !more {
			return total, err
		}
	}
}
