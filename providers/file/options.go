package file

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
)

// Options are the optional settings of [Open] and [SetAside]. The zero value of each
// field means its default.
type Options struct {
	// Name names the cache: that of the application, or of several that share it. It
	// has up to 64 lower-case letters, digits, dots, hyphens and underscores, and begins
	// with a letter or digit. Defaults to "default", which is for all programs of the
	// user.
	Name string
	// AllowUnencryptedStorage lets tokens be stored as plaintext where the operating
	// system has no store for the key, or one that does not answer, as it is locked. It
	// changes nothing where it does, and never opens an encrypted file without its key. A
	// plain file is read whoever has put it there, and encrypted with the first change
	// while the store answers.
	AllowUnencryptedStorage bool
	// Dir is the directory, an absolute path. It is created if it is not there, and
	// must be the user's own, with a mode of 0700; Windows is not asked about that.
	// Defaults to coatcheck in the user's data directory: $XDG_DATA_HOME or
	// ~/.local/share, ~/Library/Application Support on macOS, %LocalAppData% on Windows.
	Dir string
	// Passphrase, unless nil, returns what the key is derived from in place of the
	// operating system's store (Argon2id, RFC 9106). It is called by Open, and again
	// only if the file is gone or has been replaced by one that needs another key. While a
	// file is begun, other processes wait for it. The bytes are overwritten after use.
	Passphrase func(context.Context) ([]byte, error)
	// Log gets two warnings: that tokens are stored unencrypted, when such a file is
	// begun; and where a damaged file is that a change has set aside, as a Cache makes
	// the change again and nobody gets the error. Defaults to slog.Default().
	Log *slog.Logger
}

var (
	goodName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	// reserved are names of devices on Windows, with whatever behind a dot.
	reserved = regexp.MustCompile(`^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)`)
)

func (o *Options) withDefaults() (Options, error) {
	var out Options
	if o != nil {
		out = *o
	}
	if out.Name == "" {
		out.Name = "default"
	}
	if out.Log == nil {
		out.Log = slog.Default()
	}
	if !goodName.MatchString(out.Name) || reserved.MatchString(out.Name) {
		return out, errors.New("file: Options.Name has up to 64 lower-case letters, digits, dots, hyphens and underscores, " +
			"begins with a letter or digit, and is not the name of a device on Windows")
	}
	var err error
	if out.Dir == "" {
		out.Dir, err = dataDirectory()
	} else if !filepath.IsAbs(out.Dir) {
		err = errors.New("file: Options.Dir is not an absolute path")
	}
	return out, err
}

// dataDirectory is where programs keep what is not for the user to look at.
func dataDirectory() (string, error) {
	base := os.Getenv("XDG_DATA_HOME") // XDG Base Directory Specification: a relative path is ignored
	switch runtime.GOOS {
	case "windows":
		base = os.Getenv("LocalAppData")
	case "darwin", "ios":
		base = ""
	}
	if !filepath.IsAbs(base) {
		home, err := os.UserHomeDir()
		if err == nil && !filepath.IsAbs(home) {
			err = errors.New("the home directory is not an absolute path")
		}
		if err != nil {
			return "", fmt.Errorf("file: where the user's data is, is not known: set Options.Dir: %w", err)
		}
		switch runtime.GOOS {
		case "windows":
			base = filepath.Join(home, "AppData", "Local")
		case "darwin", "ios":
			base = filepath.Join(home, "Library", "Application Support")
		default:
			base = filepath.Join(home, ".local", "share")
		}
	}
	return filepath.Join(base, "coatcheck"), nil
}
