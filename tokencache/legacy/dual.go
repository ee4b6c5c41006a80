package legacy

import (
	"context"
	"errors"
	"fmt"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Dual keeps the tokens of users in two formats side by side: the unified one, and
// that of an older application which has the same users and goes on working. Its
// methods are the hooks of a cache without a provider ([tokencache.Hook]):
//
//	dual := &legacy.Dual{Format: legacy.MSALv2, Load: …, Save: …}
//	cache, err := tokencache.New(nil, ns, &tokencache.Options{
//		BeforeAccess: dual.BeforeAccess, AfterAccess: dual.AfterAccess,
//	})
//
// Only users' own partitions ([tokencache.AccountKey]) are kept in the older format
// too: all others are this application's alone.
//
// # Which refresh token is taken
//
// Each access reads both. Where they have different refresh tokens of one user and
// client, one of them is spent if the server rotates them. The unified one is the main
// one, as it is for MSAL.NET, unless the older application has refreshed since: then
// the older format's is the newer. To tell, the unified document notes which refresh
// tokens this cache has read and written in the older format (hashes of the last 16
// and of those that are there now, in the member coatcheck_legacy): one that is there
// and has not been noted comes from the older application.
//
// So a refresh by either application reaches the other, whichever save failed and
// whichever store went back to what it had before. What it cannot do:
//
//   - Two applications that refresh at the same moment both spend what was stored,
//     as no lease holds the older one back. A server that rotates strictly ends both
//     sign-ins, one with leeway accepts both, and the older application's is kept.
//   - As long as this cache has not saved a user's tokens, no note is there, and the
//     unified format wins. So it is if another library drops the note.
//   - A refresh token that comes back in the older store, from before the last 16 or
//     never read by this cache, counts as new.
//   - That the older application has signed a user out does not show: the user stays
//     signed in here, and is stored in the older format again with the next save.
//   - Account IDs of ADAL 3 are made up (see the package comment). A guest's is
//     recognised once the unified format knows the user's directory and ID there.
//
// # When something fails
//
// A save writes the unified format and then the older one, also if the first failed:
// either has the new refresh token then, and AfterAccess is called again. A removal
// takes the older one first, and stops if that fails: what would be left there would
// bring back tokens of which nobody knows which sign-in they are from.
//
// If one of the two cannot be read ([tokencache.ErrUnreadable] or
// [tokencache.ErrTooLarge], from Load or from its content) every access to the
// partition fails with [tokencache.ErrUnavailable], signing out too: nobody is signed
// out, and nothing is overwritten, until somebody has repaired or deleted it. But if
// only the unified one is there, it is as without Dual, and a new sign-in replaces it.
type Dual struct {
	// Format is the older one: [MSALv2] or [ADALv3].
	Format Format
	// Load returns what is stored in the format, nothing if nothing is. The access
	// tells whose it is; each format is to have names of its own. Load and Save are
	// called by several goroutines at once, and the two formats together have the time
	// of one hook. Required.
	Load func(ctx context.Context, a *tokencache.Access, f Format) ([]byte, error)
	// Save stores b in the format, until a.SuggestedExpiry, or, if b is empty,
	// deletes what is stored. What b holds is not encrypted. An error that is
	// [tokencache.ErrConflict] says that somebody else has written since Load; both
	// formats are then read again. Required.
	Save func(ctx context.Context, a *tokencache.Access, f Format, b []byte) error
}

// ofUsers is the kind of the partitions that are kept in both formats.
var ofUsers = tokencache.AccountKey("user").String()

func (d *Dual) both(a *tokencache.Access) bool { return a.Key.String() == ofUsers }

// check finds mistakes of the program.
func (d *Dual) check(a *tokencache.Access) error {
	switch {
	case a.Tokens == nil:
		return errors.New("legacy: a Dual is for a cache without a provider")
	case d.Format != MSALv2 && d.Format != ADALv3:
		return fmt.Errorf("legacy: a Dual for %v", d.Format)
	case d.Load == nil || d.Save == nil:
		return errors.New("legacy: a Dual without Load or Save")
	}
	return nil
}

// BeforeAccess reads both formats. It is a [tokencache.Hook].
func (d *Dual) BeforeAccess(ctx context.Context, a *tokencache.Access) error {
	if err := d.check(a); err != nil {
		return err
	}
	main, _, err := d.load(ctx, a, Unified)
	if !d.both(a) {
		if err == nil {
			*a.Tokens = *main
		}
		return err
	}
	older, old, oerr := d.load(ctx, a, d.Format)
	switch {
	case oerr != nil:
		return spare(oerr)
	case err != nil && old:
		return spare(err)
	case err != nil:
		return err
	case !old:
		*a.Tokens = *main
		return nil
	}
	both, err := join(main, older)
	if err != nil {
		return spare(err)
	}
	*a.Tokens = *both
	return nil
}

// load reads one of the formats, and tells whether there was anything.
func (d *Dual) load(ctx context.Context, a *tokencache.Access, f Format) (t *tokencache.Tokens, had bool, err error) {
	b, err := d.Load(ctx, a, f)
	if err != nil {
		return nil, false, fmt.Errorf("legacy: load %v: %w", f, err)
	}
	t = &tokencache.Tokens{}
	switch found, err := Read(t, b); {
	case err != nil:
		return nil, false, fmt.Errorf("legacy: where %v is stored: %w", f, err)
	case found != f && found != Empty:
		return nil, false, &malformed{err: fmt.Errorf("%v where %v is stored", found, f)}
	default:
		return t, found != Empty, nil
	}
}

// spare makes an error one that signs nobody out, and lets nobody replace what is
// stored.
func spare(err error) error {
	if errors.Is(err, tokencache.ErrUnreadable) || errors.Is(err, tokencache.ErrTooLarge) {
		return fmt.Errorf("%w: %w", tokencache.ErrUnavailable, err)
	}
	return err
}

// AfterAccess writes both formats if anything has changed. It is a
// [tokencache.Hook].
func (d *Dual) AfterAccess(ctx context.Context, a *tokencache.Access) error {
	if !a.HasStateChanged {
		return nil
	}
	if err := d.check(a); err != nil {
		return err
	}
	if !a.HasTokens {
		return d.remove(ctx, a)
	}
	if !d.both(a) {
		b, err := a.Tokens.MarshalJSON()
		if err != nil {
			return err
		}
		return d.save(ctx, a, Unified, b)
	}
	doc, err := documentOf(a.Tokens)
	if err != nil {
		return err
	}
	doc.note(hashes(doc))
	t, err := doc.tokens()
	if err != nil {
		return err
	}
	main, err := t.MarshalJSON()
	if err != nil {
		return err
	}
	err = d.save(ctx, a, Unified, main)
	if errors.Is(err, tokencache.ErrConflict) || errors.Is(err, tokencache.ErrTooLarge) {
		return err // it is not to be stored
	}
	older, oerr := d.older(t)
	if oerr == nil {
		oerr = d.save(ctx, a, d.Format, older)
	}
	return errors.Join(err, oerr)
}

// older returns the older format, without access tokens if there is no room for them.
func (d *Dual) older(t *tokencache.Tokens) ([]byte, error) {
	doc, err := documentOf(t)
	if err != nil {
		return nil, err
	}
	b := doc.write(d.Format)
	if len(b) > tokencache.MaxTokensSize {
		b = doc.withoutAccess().write(d.Format)
	}
	if len(b) > tokencache.MaxTokensSize {
		return nil, tokencache.ErrTooLarge
	}
	return b, nil
}

func (d *Dual) remove(ctx context.Context, a *tokencache.Access) error {
	if d.both(a) {
		if err := d.save(ctx, a, d.Format, nil); err != nil {
			return err
		}
	}
	return d.save(ctx, a, Unified, nil)
}

func (d *Dual) save(ctx context.Context, a *tokencache.Access, f Format, b []byte) error {
	if err := d.Save(ctx, a, f, b); err != nil {
		return fmt.Errorf("legacy: save %v: %w", f, err)
	}
	return nil
}
