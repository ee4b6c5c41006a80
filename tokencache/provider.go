package tokencache

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"time"
)

// Provider is a storage provider: a backend that keeps opaque, versioned bytes
// under names. (It is not an identity provider.) It knows nothing of tokens,
// accounts or encryption; a [Cache] adds those.
//
// Implementations are safe for concurrent use. They honour the context, and
// report its end as an error of their own or as ctx.Err(), never as
// [ErrNotFound]. What a Save that returned nil wrote, every Load that starts
// afterwards sees (read your writes), on every machine if the backend is
// shared. Slices are not shared: Save copies what it keeps, and the caller may
// change what Load returned.
//
// Errors other than the ones named below mean that the backend could not
// answer; a Cache reports them as [ErrUnavailable]. After such an error from
// Save, the record may or may not have been stored: the caller finds out by
// loading it and comparing versions. Providers map their driver's errors at
// the edge, wrap them once, and put no name, key or connection string in them.
//
// The package providertest holds a provider to this contract.
type Provider interface {
	// Load returns the record stored under name. A removed partition is a
	// record too (see [Record.Removed]). The error is [ErrNotFound] if there
	// is none or if it has expired, and [ErrTooLarge] if the stored bytes
	// exceed what the provider accepts in Save.
	//
	// Record.Mark is the owner's current removal mark, zero if there is none,
	// also along with ErrNotFound: a save that creates needs it.
	Load(ctx context.Context, name Name) (Record, error)

	// Save stores the record under name if the condition holds, all or
	// nothing. It returns
	//
	//   - [ErrConflict] if the condition does not hold: another version is
	//     stored, something is stored where nothing should be, or nothing is
	//     stored where a version was expected. Updating never inserts.
	//   - [ErrRemoved] if the owner has a removal mark that differs from
	//     Record.Mark, so that everything of that owner was removed after this
	//     writer had looked. It takes precedence over ErrConflict. Saving a
	//     tombstone does not look at the mark.
	//   - [ErrTooLarge] if the record is larger than the provider accepts,
	//     which must be at least [MaxSealedSize].
	Save(ctx context.Context, name Name, record Record, cond Condition) error

	// Capabilities tells what else the provider offers. The answer does not
	// change during the provider's life.
	Capabilities() Capabilities
}

// MaxSealedSize is the largest Record.Sealed that every provider accepts, in
// bytes: the 1 MiB of [MaxTokensSize] and room for the envelope around it.
const MaxSealedSize = MaxTokensSize + 4<<10

// Name is where a partition is stored. Both parts are keyed hashes in
// unpadded base64url (43 characters, RFC 4648 §5), so a name tells a reader of
// the backend neither the account nor the kind of the partition.
type Name struct {
	// Owner is the same for everything that belongs to one account, or to the
	// application. On Redis Cluster it is the hash tag.
	Owner string
	// Partition is unique to the partition within the whole store.
	Partition string
}

// Version tells two saves of one partition apart. It is chosen at random by the
// writer, before it writes, so that a writer whose reply was lost recognises
// its own record. Only equality has a meaning to a provider. The zero Version
// is none.
type Version [16]byte

// NewVersion returns a random version.
func NewVersion() Version {
	var v Version
	_, _ = rand.Read(v[:]) // never fails (crypto/rand, Go 1.24)
	return v
}

// String returns the version in hexadecimal; it is not a secret.
func (v Version) String() string { return hex.EncodeToString(v[:]) }

// Record is what a provider stores under a name.
type Record struct {
	// Sealed is the content. None (nil or empty) means that the partition has
	// been removed: the record is a tombstone.
	Sealed []byte
	// Version is the writer's tag of this save. It is never zero.
	Version Version
	// Mark is the owner's removal mark: in Load's answer the current one, in
	// Save's argument the one that the writer saw.
	Mark Version
	// Expires is when the record vanishes, by the backend's clock where it has
	// one. The zero time means never.
	Expires time.Time
}

// Removed tells whether the record is a tombstone. A tombstone has a version
// and an expiry like any record, and conditions treat it like any record.
func (r Record) Removed() bool { return len(r.Sealed) == 0 }

// Condition tells when a save may happen. The zero Condition is: only if
// nothing is stored under the name. A tombstone is something; a record that has
// expired is nothing.
type Condition struct {
	version Version
	kind    conditionKind
}

type conditionKind uint8

const (
	ifAbsent conditionKind = iota
	ifVersion
	always
)

// IfVersion is the condition that the stored record has the version v.
func IfVersion(v Version) Condition { return Condition{version: v, kind: ifVersion} }

// Always is the condition that always holds.
func Always() Condition { return Condition{kind: always} }

// Unconditional tells whether the condition always holds.
func (c Condition) Unconditional() bool { return c.kind == always }

// Version returns the version that must be stored, and whether the condition
// asks for one. If it asks for none and is not unconditional, nothing may be
// stored.
func (c Condition) Version() (Version, bool) { return c.version, c.kind == ifVersion }
