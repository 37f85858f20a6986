// Any brand color, kept readable: WCAG contrast, computed.

type Color = [number, number, number];

const WHITE: Color = [255, 255, 255];
const BLACK: Color = [0, 0, 0];
const TEXT = 4.5; // WCAG 2.2, 1.4.3
const ON_DARK = 7; // thin strokes on dark grounds look fainter than they compute
const SHAPE = 3; // 1.4.11

/** Read what the browser computed, such as `rgb(31, 95, 91)`. */
export function parse(computed: string): Color | undefined {
  const parts = /^rgba?\(([\d.]+), ([\d.]+), ([\d.]+)/.exec(computed);
  return parts ? [Number(parts[1]), Number(parts[2]), Number(parts[3])] : undefined;
}

function luminance(color: Color): number {
  const [red, green, blue] = color.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  }) as Color;
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one: Color, other: Color): number {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b) as [number, number];
  return (light + 0.05) / (dark + 0.05);
}

/** Darken or brighten a color until it stands out enough from a ground. */
function readable(color: Color, toward: Color, ground: Color, least: number): Color {
  for (let share = 0; share < 1; share += 0.04) {
    const mixed = color.map((part) => {
      if (toward === BLACK) return Math.round(part * (1 - share));
      const bright = Math.min(255, part * (1 + share)); // white alone would wash the color out
      return Math.round(bright + (255 - bright) * share ** 2);
    }) as Color;
    if (contrast(mixed, ground) >= least) return mixed;
  }
  return toward;
}

const css = (color: Color): string => `rgb(${color.join(" ")})`;

/** Return what is drawn with a brand color on a ground: areas, words on them, and words. */
export function shades(brand: Color, ground: Color): { fill: string; on: string; ink: string } {
  const away = luminance(ground) > 0.2 ? BLACK : WHITE;
  const fill = readable(brand, away, ground, SHAPE);
  const on = contrast(fill, WHITE) >= TEXT ? WHITE : BLACK;
  return { fill: css(fill), on: css(on), ink: css(readable(brand, away, ground, away === WHITE ? ON_DARK : TEXT)) };
}
