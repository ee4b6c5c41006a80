package redis

import (
	"context"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// An owner's index is a sorted set of partitions, each with the time of its
// expiry by the server's clock. Every save drops those that are over, and the key
// itself ends with the last of them, so that nothing is left to sweep.

// SetMark replaces the owner's mark. See [tokencache.OwnerIndex].
func (p *Provider) SetMark(ctx context.Context, owner string, mark tokencache.Version, expires time.Time) error {
	_, err := p.runOnce(ctx, markScript, []string{p.ownerKeys(owner).mark}, mark[:], lifeUntil(expires))
	return err
}

// List reads the owner's index. See [tokencache.OwnerIndex].
func (p *Provider) List(ctx context.Context, owner string) ([]tokencache.Name, error) {
	stop := p.overdue(ctx)
	defer stop()
	members, err := listScript.Run(ctx, p.client, []string{p.ownerKeys(owner).index}).StringSlice()
	if err != nil {
		return nil, p.answered(err)
	}
	names := make([]tokencache.Name, len(members))
	for i, m := range members {
		names[i] = tokencache.Name{Owner: owner, Partition: m}
	}
	return names, nil
}

// Touch changes an expiry without sending the record. See [tokencache.Toucher].
func (p *Provider) Touch(ctx context.Context, n tokencache.Name, v tokencache.Version, expires time.Time) error {
	k := p.keysOf(n)
	answer, err := p.run(ctx, touchScript, []string{k.record, k.index},
		head(v), encodeExpiry(expires), lifeUntil(expires), n.Partition)
	switch {
	case err != nil:
		return err
	case answer == 1:
		return tokencache.ErrConflict
	case answer == 2:
		return tokencache.ErrNotFound
	}
	return nil
}
