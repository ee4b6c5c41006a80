package idp

import (
	"container/list"
	"time"
)

// bounded is a map that cannot grow without end: every entry expires a fixed
// time after it was last put or touched, and above the limit the entry that
// was used longest ago makes room. Since all entries live equally long, the
// list is always in order of expiry, and sweeping costs what it removes.
//
// It is not safe for concurrent use; store guards it.
type bounded[V any] struct {
	limit    int
	lifetime time.Duration
	byKey    map[string]*list.Element
	order    *list.List // of *boundedEntry[V], soonest to expire first
}

type boundedEntry[V any] struct {
	key     string
	value   V
	expires time.Time
}

func newBounded[V any](limit int, lifetime time.Duration) *bounded[V] {
	return &bounded[V]{limit: limit, lifetime: lifetime, byKey: make(map[string]*list.Element), order: list.New()}
}

// get returns the value of key unless it has expired. It does not extend it.
func (b *bounded[V]) get(key string) (V, bool) {
	if el, ok := b.byKey[key]; ok {
		if e := el.Value.(*boundedEntry[V]); time.Now().Before(e.expires) {
			return e.value, true
		}
	}
	var zero V
	return zero, false
}

// put sets the value of key, with a full lifetime.
func (b *bounded[V]) put(key string, value V) {
	b.remove(key)
	b.sweep()
	for b.order.Len() >= b.limit {
		b.removeElement(b.order.Front())
	}
	e := &boundedEntry[V]{key: key, value: value, expires: time.Now().Add(b.lifetime)}
	b.byKey[key] = b.order.PushBack(e)
}

// touch gives the entry a full lifetime again.
func (b *bounded[V]) touch(key string) {
	if el, ok := b.byKey[key]; ok {
		el.Value.(*boundedEntry[V]).expires = time.Now().Add(b.lifetime)
		b.order.MoveToBack(el)
	}
}

func (b *bounded[V]) remove(key string) {
	if el, ok := b.byKey[key]; ok {
		b.removeElement(el)
	}
}

// each calls f for every entry that has not been swept yet.
func (b *bounded[V]) each(f func(V)) {
	for el := b.order.Front(); el != nil; el = el.Next() {
		f(el.Value.(*boundedEntry[V]).value)
	}
}

func (b *bounded[V]) sweep() {
	now := time.Now()
	for el := b.order.Front(); el != nil; el = b.order.Front() {
		if now.Before(el.Value.(*boundedEntry[V]).expires) {
			return
		}
		b.removeElement(el)
	}
}

func (b *bounded[V]) removeElement(el *list.Element) {
	delete(b.byKey, el.Value.(*boundedEntry[V]).key)
	b.order.Remove(el)
}
