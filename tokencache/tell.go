package tokencache

import (
	"context"
	"errors"
	"time"
)

// tell tells of an event of this partition, if anybody listens.
func (p *Partition) tell(ctx context.Context, e Event) {
	listen := p.cache.opts.Events
	if listen == nil {
		return
	}
	e.Key, e.CorrelationID = p.key, p.correlation()
	if e.Partition == "" {
		if name, err := p.storageName(); err == nil {
			e.Partition = shortName(name)
		}
	}
	listen(ctx, e)
}

// tell tells of an event that no request asked for.
func (c *Cache) tell(e Event) {
	if c.opts.Events != nil {
		c.opts.Events(context.Background(), e)
	}
}

func shortName(n Name) string { return n.Partition[:min(eventName, len(n.Partition))] }

// loadStored loads what is stored of the partition, and tells of it. But for
// loadRecord, nobody uses that without judging whether it is out of date.
func (p *Partition) loadStored(ctx context.Context, name Name) (*state, error) {
	if p.cache.opts.Events == nil {
		return p.cache.store.load(ctx, name)
	}
	began := time.Now()
	st, err := p.cache.store.load(ctx, name)
	if errors.Is(err, errNotAsked) {
		return st, err
	}
	e := Event{Kind: EventLoad, Duration: time.Since(began), Err: err}
	if st != nil {
		e.Source, e.Err = SourceProvider, st.err
	}
	p.tell(ctx, e)
	var unreadable *unreadableError
	if st != nil && errors.As(st.err, &unreadable) {
		p.tell(ctx, Event{Kind: EventUnreadable, Detail: unreadable.reason, Err: st.err})
	}
	return st, err
}

// changed takes a message of the provider's watcher.
func (c *Cache) changed(change Change) {
	c.hearsay.add(&change)
	switch id := c.l1.changed(change); {
	case change.Missed:
		c.tell(Event{Kind: EventInvalidation, Detail: detailMissed})
	case id != keyID{}:
		c.tell(Event{Kind: EventInvalidation, Detail: detailChanged, Key: Key{id: id}, Partition: shortName(change.Name)})
	}
}

// tellOutage tells that the provider has failed for a while, or answers again.
func (c *Cache) tellOutage(down bool) {
	e := Event{Kind: EventOutage, Detail: detailOver}
	if down {
		e.Detail = detailBegan
	}
	c.tell(e)
}
