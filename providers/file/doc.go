// Package file is a storage provider for programs on somebody's machine: desktop
// applications and command-line tools. It keeps all partitions in one encrypted file, of
// which the key is in the operating system's store. (It has nothing to do with identity
// providers.)
//
//	provider, err := file.Open(ctx, &file.Options{Name: "contoso-cli"})
//	cache, err := tokencache.New(provider, namespace, nil)
//
// A Cache needs no keys for it, and keeps no copies of what it reads: what another
// process has done is seen at the next access.
//
// # The key
//
// Open keeps 32 random bytes in the store of the user who is logged in: the Secret
// Service on Linux and other Unixes (gnome-keyring, KWallet, KeePassXC), the Keychain on
// macOS, the Credential Manager on Windows. The entry has the service "coatcheck" and the
// name of the cache, whatever the directory. The file opens for this user on this machine and for nobody else:
// it may be backed up, and a copy elsewhere is of no use.
//
// Where there is no such store, as in a container or over SSH, Open fails with
// [ErrKeyStore] and says what to do: start one; or set [Options.Passphrase]; or set
// [Options.AllowUnencryptedStorage], and a plain file is used, once a warning has been
// logged. That file is encrypted as soon as there is a store.
//
// The protection is that of the user's account: another program that the same user runs
// can ask for the same key. It does not keep whoever can write to the directory from
// putting an older file back.
//
// # Many processes
//
// Any number of processes may use one file, on one machine: they take turns by a lock
// file, which stays. Each change is written to another file that then takes the file's
// place, so that a crash leaves the old one or the new one. The lease on a partition,
// without which two processes would spend one refresh token, is kept in a file beside it.
// Before a lease is given it is tried whether the disk has room for a save: a token that
// could not be stored is not obtained. File systems of a network are not supported.
//
// # What goes wrong
//
// A file that is damaged is set aside under another name, and the error,
// *[CorruptError], tells it; the next access begins a new one. A file whose key is not
// there stays where it is ([ErrKey]): the key may come back. Who has given up on it calls
// [SetAside]. A file or directory that others may use is refused ([ErrAccess]), but for
// Windows, where the directory has what the user's data directory hands down.
//
// # Other tools
//
// The default cache is shared by the programs of one user that use this package, and not
// with Microsoft's developer tools: theirs differ in format and place from tool to tool
// and from system to system.
//
// # Bytes of one's own
//
// [Stream] is a provider for programs that keep the bytes in a place of their own.
package file
