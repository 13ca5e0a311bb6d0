/** Names to try for a file that an image names in the manner of Windows: a path there means the file beside the image. */
export function windowsNames(filename: string): string[] {
  if (!filename.includes('\\')) return [];
  if (!filename.startsWith('\\') && !/^[A-Za-z]:/.test(filename)) return [filename.replaceAll('\\', '/')];
  return namesOf(filename.slice(filename.lastIndexOf('\\') + 1));
}

/** The same, and for a path of another machine of any kind: for files of which it can be told whether they are the right ones. */
export function besideTheImage(filename: string): string[] {
  if (!filename.startsWith('/')) return windowsNames(filename);
  return namesOf(filename.slice(filename.lastIndexOf('/') + 1));
}

const namesOf = (name: string): string[] => (name === '' ? [] : [name]);
