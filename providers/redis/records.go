package redis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Load reads a record and its owner's mark in one round trip. See
// [tokencache.Provider].
//
// The record is read first. If the owner is removed, and signs in again, just in
// between, the two are an old record and a newer mark, as they were when that mark
// was set: an owner who is removed. The other way round they would be a new record
// and an older mark, and the sign-in would seem to be removed. So two commands do,
// faster than a script or a transaction, and reads go on while a Cluster moves the
// slot, one key at a time.
func (p *Provider) Load(ctx context.Context, n tokencache.Name) (tokencache.Record, error) {
	stop := p.overdue(ctx)
	defer stop()
	record, mark := p.readKeys(n)
	got, err := p.reads.load(ctx, record, mark)
	if err != nil {
		return tokencache.Record{}, mapped(err)
	}
	for _, err := range [...]error{got.record.Err(), got.mark.Err()} {
		if err != nil && !isWrongType(err) {
			return tokencache.Record{}, p.answered(err)
		}
	}
	return loaded(got)
}

// maxMark is the last byte of a mark that is read: one more than it has.
const maxMark = len(tokencache.Version{})

func loaded(got read) (tokencache.Record, error) {
	if err := got.mark.Err(); err != nil {
		return tokencache.Record{}, mapped(err)
	}
	var r tokencache.Record
	stored, err := got.record.Bytes()
	switch {
	case err != nil: // isWrongType
		r, err = tokencache.Record{Sealed: []byte{0}}, nil // as of a value that is not ours, see decode
	case len(stored) == 0:
		err = tokencache.ErrNotFound
	case len(stored) > maxSize:
		err = fmt.Errorf("%w: what is stored exceeds %d bytes", tokencache.ErrTooLarge, maxSize)
	default:
		r = decode(stored)
	}
	mark := got.mark.Val()
	switch len(mark) {
	case 0:
	case len(r.Mark):
		copy(r.Mark[:], mark)
	default:
		return tokencache.Record{}, errForeignMark
	}
	return r, err
}

var errForeignMark = errors.New("redis: a removal mark is not one: " +
	"another application writes under this prefix; give each its own")

// Save is one script, behind the value that it stores, in one round trip. See
// [tokencache.Provider]. When a reply is lost, the client may send both again: the
// script then finds its own version and answers [tokencache.ErrConflict], and the
// caller tells the two apart by loading. One without a condition is sent once.
func (p *Provider) Save(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
	if len(r.Sealed) > tokencache.MaxSealedSize {
		return fmt.Errorf("%w: %d bytes, at most %d", tokencache.ErrTooLarge, len(r.Sealed), tokencache.MaxSealedSize)
	}
	k := p.keysOf(n)
	var seen []byte
	if r.Mark != (tokencache.Version{}) {
		seen = r.Mark[:]
	}
	life := lifeUntil(r.Expires)
	keys := []string{k.record, k.mark, k.index, k.staged(r.Version)}
	args := []any{condition(c), seen, encode(&r), life, n.Partition, p.channel, encodeChange(n, r.Version)}
	var answer int
	var err error
	switch {
	case c.Unconditional():
		answer, err = p.runOnce(ctx, saveScript, keys, args...)
	case r.Removed() || life == 0:
		answer, err = p.run(ctx, saveScript, keys, args...)
	default:
		answer, err = p.stage(ctx, keys, args)
	}
	switch {
	case err != nil:
		return err
	case answer == 1:
		return tokencache.ErrConflict
	case answer == 2:
		return tokencache.ErrRemoved
	case answer == 3:
		return errStaged
	}
	return nil
}

// stagedLife is how long a value waits for its script. The two are sent together:
// only if the connection ends in between, nobody fetches the value.
const stagedLife = time.Minute

var errStaged = errors.New("redis: what was to be stored has expired on the server before its script ran")

// stage sends the value in a command of its own, ahead of the script, which puts it
// in its place by renaming its key. To hand the value to a script and from there to
// the database takes several times as long as to store it.
func (p *Provider) stage(ctx context.Context, keys []string, args []any) (int, error) {
	stop := p.overdue(ctx)
	defer stop()
	value := args[2]
	args[2] = ""
	pipe := p.client.Pipeline()
	set := pipe.Set(ctx, keys[3], value, stagedLife)
	saved := saveScript.EvalSha(ctx, pipe, keys, args...)
	_, err := pipe.Exec(ctx)
	switch {
	case set.Err() != nil:
		return 0, p.answered(set.Err())
	case redis.HasErrorPrefix(saved.Err(), "NOSCRIPT"):
		saved = saveScript.Eval(ctx, p.client, keys, args...)
	case saved.Err() == nil && err != nil: // the server has refused the connection
		return 0, p.answered(err)
	}
	answer, err := saved.Int()
	return answer, p.answered(err)
}

// condition is what the script takes. A head is longer than the words.
func condition(c tokencache.Condition) any {
	if c.Unconditional() {
		return "always"
	}
	if v, ok := c.Version(); ok {
		return head(v)
	}
	return "absent"
}
