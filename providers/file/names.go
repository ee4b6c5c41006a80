package file

import (
	"cmp"
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// pageSize is how many names a page has.
const pageSize = 256

// Names returns a page of the names, in their order: the cursor is the last name of the
// page before. See [tokencache.Lister].
func (r *records) Names(ctx context.Context, cursor string) (names []tokencache.Name, next string, err error) {
	after, err := parseCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	d, err := r.content.read(ctx)
	if err != nil {
		return nil, "", err
	}
	now := time.Now()
	for n, stored := range d.records {
		if compare(n, after) > 0 && !gone(stored.expires, now) {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, compare)
	if len(names) > pageSize {
		names = names[:pageSize]
		next = formatCursor(names[pageSize-1])
	}
	return names, next, nil
}

func compare(a, b tokencache.Name) int {
	return cmp.Or(strings.Compare(a.Owner, b.Owner), strings.Compare(a.Partition, b.Partition))
}

const cursorKind = "file"

func formatCursor(n tokencache.Name) string {
	text := base64.RawURLEncoding.EncodeToString
	return cursorKind + "." + text([]byte(n.Owner)) + "." + text([]byte(n.Partition))
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
