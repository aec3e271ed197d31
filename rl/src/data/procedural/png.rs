use rlvr_policies::vision::Rgb;
pub(super) fn encode_png(rgb: &Rgb) -> Vec<u8> {
    fn crc(parts: &[&[u8]]) -> u32 {
        let mut c = !0u32;
        for b in parts.iter().flat_map(|p| p.iter()) {
            c ^= u32::from(*b);
            for _ in 0..8 {
                c = if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 };
            }
        }
        !c
    }
    let mut out = vec![0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a];
    let mut chunk = |name: &[u8], data: &[u8]| {
        out.extend((data.len() as u32).to_be_bytes());
        out.extend(name);
        out.extend(data);
        out.extend(crc(&[name, data]).to_be_bytes());
    };
    let mut head = Vec::new();
    head.extend((rgb.width as u32).to_be_bytes());
    head.extend((rgb.height as u32).to_be_bytes());
    head.extend([8, 2, 0, 0, 0]);
    chunk(b"IHDR", &head);
    let mut raw = Vec::new();
    for row in rgb.pixels.chunks(rgb.width * 3) {
        raw.push(0);
        raw.extend(row);
    }
    let (mut a, mut b) = (1u32, 0u32);
    for v in &raw {
        a = (a + u32::from(*v)) % 65521;
        b = (b + a) % 65521;
    }
    let mut z = vec![0x78, 1];
    let n = raw.chunks(65535).count();
    for (i, part) in raw.chunks(65535).enumerate() {
        z.push(u8::from(i + 1 == n));
        z.extend((part.len() as u16).to_le_bytes());
        z.extend((!(part.len() as u16)).to_le_bytes());
        z.extend(part);
    }
    z.extend((b << 16 | a).to_be_bytes());
    chunk(b"IDAT", &z);
    chunk(b"IEND", &[]);
    out
}
