package memory

import (
	"cmp"
	"container/heap"
	"context"
	"encoding/base64"
	"strings"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// pageSize is how many names a page has.
const pageSize = 256

// Names returns a page of the names, in their order: the cursor is the last name of
// the page before. See [tokencache.Lister]. It looks at all names for each page, and
// holds nobody up.
func (p *Provider) Names(ctx context.Context, cursor string) (names []tokencache.Name, next string, err error) {
	if err := p.ready(ctx); err != nil {
		return nil, "", err
	}
	after, err := parseCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	now := time.Now()
	var page least
	more := false
	for name, e := range p.records.All() {
		if compare(name, after) <= 0 || e.expired(now) {
			continue
		}
		heap.Push(&page, name)
		if len(page) > pageSize {
			heap.Pop(&page)
			more = true
		}
	}
	names = make([]tokencache.Name, len(page))
	for i := len(page) - 1; i >= 0; i-- {
		names[i] = heap.Pop(&page).(tokencache.Name)
	}
	if more {
		next = formatCursor(names[len(names)-1])
	}
	return names, next, ctx.Err()
}

func compare(a, b tokencache.Name) int {
	return cmp.Or(strings.Compare(a.Owner, b.Owner), strings.Compare(a.Partition, b.Partition))
}

const cursorKind = "memory"

func formatCursor(n tokencache.Name) string {
	return cursorKind + "." + base64.RawURLEncoding.EncodeToString([]byte(n.Owner)) +
		"." + base64.RawURLEncoding.EncodeToString([]byte(n.Partition))
}

func parseCursor(cursor string) (n tokencache.Name, err error) {
	if cursor == "" {
		return n, nil
	}
	parts := strings.Split(cursor, ".")
	if len(parts) != 3 || parts[0] != cursorKind {
		return n, tokencache.ErrCursor
	}
	owner, err1 := base64.RawURLEncoding.DecodeString(parts[1])
	partition, err2 := base64.RawURLEncoding.DecodeString(parts[2])
	if cmp.Or(err1, err2) != nil {
		return n, tokencache.ErrCursor
	}
	return tokencache.Name{Owner: string(owner), Partition: string(partition)}, nil
}

// least is a heap whose first name is the last of all: what is pushed out of it leaves
// those that come first.
type least []tokencache.Name

func (l least) Len() int           { return len(l) }
func (l least) Less(i, j int) bool { return compare(l[i], l[j]) > 0 }
func (l least) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }

// Push is that of [heap.Interface].
func (l *least) Push(x any) { *l = append(*l, x.(tokencache.Name)) }

// Pop is that of [heap.Interface].
func (l *least) Pop() any {
	last := len(*l) - 1
	n := (*l)[last]
	*l = (*l)[:last]
	return n
}
