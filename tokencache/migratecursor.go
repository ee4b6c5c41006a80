package tokencache

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"strings"
)

// migrateCursor is where a migration is: at the beginning of a page. As text it is the
// scheme, and in unpadded base64url the JSON of it behind a checksum.
type migrateCursor struct {
	Phase string `json:"phase,omitempty"`
	// At is the lister's.
	At string `json:"at,omitempty"`
	// There is how many names of the source had something, and Missing how many of the
	// journal's had nothing any more, on the pages before.
	There   int64 `json:"there,omitempty"`
	Missing int64 `json:"missing,omitempty"`
}

const (
	phaseSource  = ""        // the names of the source
	phaseJournal = "journal" // then those of the journal
)

const (
	migrateScheme = "cc-migrate-1."
	migrateSum    = 8
	// maxMigrateCursor is beyond all cursors of providers.
	maxMigrateCursor = 4096
)

func (c migrateCursor) text() string {
	b, _ := json.Marshal(c) // never fails
	sum := sha256.Sum256(b)
	return migrateScheme + base64.RawURLEncoding.EncodeToString(append(sum[:migrateSum:migrateSum], b...))
}

func parseMigrateCursor(text string) (c migrateCursor, err error) {
	rest, ok := strings.CutPrefix(text, migrateScheme)
	if !ok || len(text) > maxMigrateCursor {
		return c, ErrCursor
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	if err != nil || len(b) < migrateSum {
		return c, ErrCursor
	}
	sum := sha256.Sum256(b[migrateSum:])
	if subtle.ConstantTimeCompare(sum[:migrateSum], b[:migrateSum]) == 0 || json.Unmarshal(b[migrateSum:], &c) != nil {
		return migrateCursor{}, ErrCursor
	}
	if c.Phase != phaseSource && c.Phase != phaseJournal || c.There < 0 || c.Missing < 0 {
		return migrateCursor{}, ErrCursor
	}
	return c, nil
}
