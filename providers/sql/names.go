package sql

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// pageSize is how many names a page has.
const pageSize = 256

// Names returns a page of the names by the primary key: the cursor is the last name of
// the page before. See [tokencache.Lister].
func (p *Provider) Names(ctx context.Context, cursor string) (names []tokencache.Name, next string, err error) {
	after, err := parseCursor(p.db.kind(), cursor)
	if err != nil {
		return nil, "", err
	}
	names, err = p.db.names(ctx, after, pageSize)
	if err != nil {
		return nil, "", err
	}
	if len(names) == pageSize {
		next = formatCursor(p.db.kind(), names[pageSize-1])
	}
	return names, next, nil
}

// A cursor is the kind of database, the prefix of the tables, and a name.
func formatCursor(kind string, n tokencache.Name) string {
	return kind + "." + base64.RawURLEncoding.EncodeToString([]byte(n.Owner)) +
		"." + base64.RawURLEncoding.EncodeToString([]byte(n.Partition))
}

func parseCursor(kind, cursor string) (n tokencache.Name, err error) {
	if cursor == "" {
		return n, nil
	}
	rest, ok := strings.CutPrefix(cursor, kind+".")
	owner, partition, both := strings.Cut(rest, ".")
	if !ok || !both {
		return n, tokencache.ErrCursor
	}
	o, err1 := base64.RawURLEncoding.DecodeString(owner)
	p, err2 := base64.RawURLEncoding.DecodeString(partition)
	n = tokencache.Name{Owner: string(o), Partition: string(p)}
	if text := n.Owner + n.Partition; cmp.Or(err1, err2) != nil || !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return tokencache.Name{}, tokencache.ErrCursor
	}
	return n, nil
}

func (p *postgres) kind() string { return "postgres." + p.prefix }

func (p *postgres) names(ctx context.Context, after tokencache.Name, most int) (names []tokencache.Name, err error) {
	err = p.call(ctx, repeatable, func(db PgxDB) error {
		rows, err := db.Query(ctx, p.sql.names, after.Owner, after.Partition, most)
		if err != nil {
			return err
		}
		names, err = pgx.CollectRows(rows, pgx.RowToStructByPos[tokencache.Name])
		return err
	})
	if err != nil {
		return nil, err
	}
	return names, nil
}

func (s *sqlite) kind() string { return "sqlite." + s.prefix }

func (s *sqlite) names(ctx context.Context, after tokencache.Name, most int) (names []tokencache.Name, err error) {
	err = s.call(ctx, func() error {
		names = nil
		return sqliteRows(ctx, s, s.sql.names, []any{after.Owner, after.Partition, most}, func(rows *sql.Rows) error {
			var n tokencache.Name
			err := rows.Scan(&n.Owner, &n.Partition)
			names = append(names, n)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return names, nil
}
