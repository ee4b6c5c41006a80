package tokencache

import "context"

// Expire drops the access tokens of the partition, so that the next Token asks
// the authorization server; on other machines as soon as their copies end (see
// [Options.L1MaxAge]). Refresh and ID tokens stay. Use it when the user's rights
// have changed. Errors are those of Token, [ErrConflict] when others kept writing,
// and a hook's. A provider that stops answering meanwhile is tried for 5 seconds.
func (p *Partition) Expire(ctx context.Context) (err error) {
	ctx, access, err := p.begin(ctx, nil)
	var saved *state
	defer func() { p.end(ctx, access, saved.snapshot(), SourceNone, err) }()
	if err != nil {
		return err
	}
	st, err := p.current(ctx)
	if err != nil {
		return err
	}
	saved, err = p.commit(ctx, saveTimeout, access, st, func(now *state) (meta, *document, error) {
		if now = p.guard(now); now.err != nil {
			return meta{}, nil, now.err
		}
		m, doc, err := contentOf(now.snap)
		if err == nil {
			doc.dropAccessTokens(p.cache.writer(p.key))
		}
		return m, doc, err
	})
	return err
}
